#include "heed/nn/additive_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <torch/nn/init.h>

#include <limits>

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

// The hidden layer of one query is as large as its keys, which the engine would keep for the
// backward pass: kept itself, no tanh is computed again.
at::Tensor additive_scores(const at::Tensor& query, const at::Tensor& keys,
                           const at::Tensor& score_weight, const at::Tensor& lengths) {
  const at::Tensor hidden = (within(keys, lengths) + query).tanh_();      // [B,S,D]
  const at::Tensor scores = at::matmul(hidden, score_weight.squeeze(0));  // [B,S]
  if (!lengths.defined()) return scores;
  return scores.masked_fill(keys_beyond(lengths, keys.size(1)),
                            -std::numeric_limits<double>::infinity());
}

at::Tensor softmax_of_scores(const at::Tensor& scores, const at::Tensor& lengths) {
  if (!lengths.defined()) return at::softmax(scores, -1);
  const at::Tensor hidden = scores.isneginf();
  const at::Tensor finite = scores.masked_fill(hidden, std::numeric_limits<float>::lowest());
  return at::softmax(finite, -1).masked_fill(hidden, 0);
}

}  // namespace heed::nn
