#include "heed/nn/sentinel_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {

VisualSentinelImpl::VisualSentinelImpl(int64_t input_size, int64_t hidden_size)
    : input_projection_(
          register_module("input_projection", torch::nn::Linear(input_size, hidden_size))),
      hidden_projection_(
          register_module("hidden_projection", linear_without_bias(hidden_size, hidden_size))) {}

void VisualSentinelImpl::reset_parameters() {
  input_projection_->reset_parameters();
  hidden_projection_->reset_parameters();
}

at::Tensor VisualSentinelImpl::forward(const at::Tensor& input, const at::Tensor& previous_hidden,
                                       const at::Tensor& cell) {
  return at::sigmoid(input_projection_(input) + hidden_projection_(previous_hidden)) *
         at::tanh(cell);
}

void VisualSentinelImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::VisualSentinel";
}

SentinelAttentionImpl::SentinelAttentionImpl(const SentinelAttentionOptions& options)
    : options_(options) {
  const auto linear = [&](const char* name, int64_t width) {
    return register_module(name, linear_without_bias(width, options.size));
  };
  query_projection_ = linear("query_projection", options.query_size);
  key_projection_ = linear("key_projection", options.key_size);
  sentinel_projection_ = linear("sentinel_projection", options.value_size);
  score_weight_ = register_parameter("score_weight", at::empty({1, options.size}));
  reset_parameters();
}

void SentinelAttentionImpl::reset_parameters() {
  query_projection_->reset_parameters();
  key_projection_->reset_parameters();
  sentinel_projection_->reset_parameters();
  const double bound = 1 / std::sqrt(static_cast<double>(options_.size));
  torch::nn::init::uniform_(score_weight_, -bound, bound);
}

at::Tensor SentinelAttentionImpl::keys(const at::Tensor& memory) {
  check_rows("SentinelAttention", "memory", memory, "[B,S,key_size]", options_.key_size);
  return key_projection_(memory);
}

SentinelOutput SentinelAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                              const at::Tensor& values, const at::Tensor& sentinel,
                                              const at::Tensor& lengths, Weights weights) {
  check_rows("SentinelAttention", "query", query, "[B,T,query_size]", options_.query_size);
  check_rows("SentinelAttention", "sentinel", sentinel, "[B,T,Dv]", options_.value_size);
  const at::Tensor queries = query_projection_(query);  // [B,T,D]
  const at::Tensor q = queries.unsqueeze(1), k = keys.unsqueeze(1);
  const AttentionOptions options{
      .score = Score::kAdditive, .weight = score_weight_, .kv_lengths = lengths};
  const auto [context, lse] = attention_with_lse(q, k, values.unsqueeze(1), options);
  const at::Tensor hidden = at::tanh(sentinel_projection_(sentinel) + queries);    // [B,T,D]
  const at::Tensor sentinel_score = at::matmul(hidden, score_weight_.squeeze(0));  // [B,T]
  SentinelOutput result;
  result.sentinel_weight = at::sigmoid(sentinel_score - lse.squeeze(1).to(query.scalar_type()));
  const at::Tensor share = result.sentinel_weight.unsqueeze(-1);  // [B,T,1]
  result.output = share * sentinel + (1 - share) * context.squeeze(1);
  if (weights == Weights::kReturn) {
    result.weights = attention_weights(q, k, options).squeeze(1) * (1 - share.detach());
  }
  return result;
}

void SentinelAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::SentinelAttention(query_size=" << options_.query_size
         << ", key_size=" << options_.key_size << ", value_size=" << options_.value_size
         << ", size=" << options_.size << ")";
}

}  // namespace heed::nn
