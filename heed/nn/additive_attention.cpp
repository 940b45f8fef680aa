#include "heed/nn/additive_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>
#include <torch/nn/init.h>

#include <limits>
#include <tuple>

#include "heed/nn/heads.h"

namespace heed::nn {

AdditiveAttentionImpl::AdditiveAttentionImpl(const AdditiveAttentionOptions& options)
    : options_(options),
      query_projection_(
          register_module("query_projection", torch::nn::Linear(options.query_size, options.size))),
      key_projection_(
          register_module("key_projection", linear_without_bias(options.key_size, options.size))),
      score_weight_(register_parameter("score_weight", at::empty({1, options.size}))) {
  reset_parameters();
}

void AdditiveAttentionImpl::reset_parameters() {
  torch::nn::init::normal_(query_projection_->weight, 0, 0.001);
  torch::nn::init::normal_(key_projection_->weight, 0, 0.001);
  torch::nn::init::zeros_(query_projection_->bias);
  torch::nn::init::zeros_(score_weight_);
}

at::Tensor AdditiveAttentionImpl::keys(const at::Tensor& memory) {
  check_rows("AdditiveAttention", "memory", memory, "[B,S,key_size]", options_.key_size);
  return key_projection_(memory);
}

AttentionOutput AdditiveAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                               const at::Tensor& values, const at::Tensor& lengths,
                                               Weights weights) {
  check_rows("AdditiveAttention", "query", query, "[B,T,query_size]", options_.query_size);
  const AttentionOptions options{
      .score = Score::kAdditive, .weight = score_weight_, .kv_lengths = lengths};
  return attend_single_head(query_projection_(query), keys, values, options, weights);
}

void AdditiveAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::AdditiveAttention(query_size=" << options_.query_size
         << ", key_size=" << options_.key_size << ", size=" << options_.size << ")";
}

// The hidden layer [B,S,D] is not stored. The sum in tanh is symmetric, so the keys stand as
// queries over a single key: a row that sees one key has that key's score as its log-sum-exp.
at::Tensor additive_scores(const at::Tensor& query, const at::Tensor& keys,
                           const at::Tensor& score_weight, const at::Tensor& lengths) {
  AttentionOptions options{.score = Score::kAdditive, .weight = score_weight};
  if (lengths.defined()) {
    options.program = program::ScoreProgram::masked(program::t() < table(lengths)[program::b()]);
  }
  const at::Tensor q = keys.unsqueeze(1), k = query.unsqueeze(1);  // [B,1,S,D], [B,1,1,D]
  const at::Tensor no_values = k.narrow(-1, 0, 0);                 // [B,1,1,0]
  return std::get<1>(attention_with_lse(q, k, no_values, options)).squeeze(1);
}

at::Tensor softmax_of_scores(const at::Tensor& scores) {
  const at::Tensor hidden = scores.isneginf();
  const at::Tensor finite = scores.masked_fill(hidden, std::numeric_limits<float>::lowest());
  return at::softmax(finite, -1).masked_fill(hidden, 0);
}

}  // namespace heed::nn
