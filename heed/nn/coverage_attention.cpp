#include "heed/nn/coverage_attention.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/init.h>

#include <vector>

#include "heed/nn/additive_attention.h"
#include "heed/nn/heads.h"

namespace heed::nn {

CoverageAttentionImpl::CoverageAttentionImpl(const CoverageAttentionOptions& options)
    : options_(options) {
  query_projection_ =
      register_module("query_projection", torch::nn::Linear(options.query_size, options.size));
  key_projection_ =
      register_module("key_projection", linear_without_bias(options.key_size, options.size));
  coverage_weight_ = register_parameter("coverage_weight", at::empty({options.size}));
  score_weight_ = register_parameter("score_weight", at::empty({1, options.size}));
  reset_parameters();
}

void CoverageAttentionImpl::reset_parameters() {
  for (at::Tensor& parameter : parameters()) torch::nn::init::uniform_(parameter, -0.02, 0.02);
  torch::nn::init::zeros_(query_projection_->bias);
}

at::Tensor CoverageAttentionImpl::keys(const at::Tensor& memory) {
  check_rows("CoverageAttention", "memory", memory, "[B,S,key_size]", options_.key_size);
  return key_projection_(memory);
}

CoverageOutput CoverageAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                              const at::Tensor& values, const at::Tensor& lengths,
                                              const at::Tensor& coverage) {
  check_rows("CoverageAttention", "query", query, "[B,T,query_size]", options_.query_size);
  check_rows("CoverageAttention", "keys", keys, "[B,S,D]", options_.size);
  const int64_t B = keys.size(0), S = keys.size(1), T = query.size(1);
  const at::Tensor queries = query_projection_(query);  // [B,T,D]
  CoverageOutput result;
  result.coverage = coverage.defined() ? coverage : at::zeros({B, S}, keys.options());
  std::vector<at::Tensor> weights, losses;
  for (int64_t t = 0; t < T; ++t) {
    const at::Tensor covered =
        at::addcmul(keys, result.coverage.unsqueeze(-1), coverage_weight_);  // [B,S,D]
    const at::Tensor scores =
        additive_scores(queries.narrow(1, t, 1), covered, score_weight_, lengths);
    weights.push_back(softmax_of_scores(scores, lengths).to(keys.scalar_type()));  // [B,S]
    losses.push_back(at::minimum(weights.back(), result.coverage).sum(-1));
    result.coverage = result.coverage + weights.back();
  }
  result.weights = T > 0 ? at::stack(weights, 1) : at::zeros({B, 0, S}, keys.options());
  result.loss = T > 0 ? at::stack(losses, 1) : at::zeros({B, 0}, keys.options());
  result.output = at::bmm(result.weights, within(values, lengths));
  return result;
}

void CoverageAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::CoverageAttention(query_size=" << options_.query_size
         << ", key_size=" << options_.key_size << ", size=" << options_.size << ")";
}

}  // namespace heed::nn
