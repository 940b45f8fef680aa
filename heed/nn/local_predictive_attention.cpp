#include "heed/nn/local_predictive_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/promote_types.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {

LocalPredictiveAttentionImpl::LocalPredictiveAttentionImpl(
    const LocalPredictiveAttentionOptions& options)
    : options_(options) {
  TORCH_CHECK(options.window > 0, "[LocalPredictiveAttention] window: expected more than 0, got ",
              options.window);
  query_projection_ =
      register_module("query_projection", linear_without_bias(options.query_size, options.size));
  score_weight_ = register_parameter("score_weight", at::empty({1, options.size}));
  reset_parameters();
}

void LocalPredictiveAttentionImpl::reset_parameters() {
  for (at::Tensor& parameter : parameters()) torch::nn::init::uniform_(parameter, -0.1, 0.1);
}

at::Tensor LocalPredictiveAttentionImpl::centres(const at::Tensor& query,
                                                 const at::Tensor& lengths) {
  check_rows("LocalPredictiveAttention", "query", query, "[B,T,query_size]", options_.query_size);
  const at::Tensor hidden = at::tanh(query_projection_(query));           // [B,T,size]
  const at::Tensor share = at::matmul(hidden, score_weight_.squeeze(0));  // [B,T]
  // In float32 at least: the eight bits of bfloat16 tell no more than 256 places apart.
  const auto precise = at::promote_types(share.scalar_type(), at::kFloat);
  return lengths.unsqueeze(1) * at::sigmoid(share.to(precise));
}

AttentionOutput LocalPredictiveAttentionImpl::forward(const at::Tensor& query,
                                                      const at::Tensor& keys,
                                                      const at::Tensor& values,
                                                      const at::Tensor& lengths, Weights weights) {
  const int64_t B = keys.size(0), S = keys.size(1);
  const at::Tensor centre =
      centres(query, lengths.defined() ? lengths : at::full({B}, S, at::kLong));  // [B,T]
  const double narrowness = 2 / (options_.window * options_.window);              // 1 / (2 sigma^2)

  using namespace program;
  const Expression away = s() - table(centre).at({b(), t()});
  const Expression near = abs(away) <= options_.window;
  AttentionOptions options{.program = ScoreProgram(score() - narrowness * away * away, near),
                           .scale = 1.0,
                           .kv_lengths = lengths,
                           .dropout_p = is_training() ? options_.dropout : 0};
  if (options_.normalized) return attend_single_head(query, keys, values, options, weights);

  // softmax(score) gaussian = softmax(score + log gaussian) exp(lse with - lse without).
  const at::Tensor q = query.unsqueeze(1), k = keys.unsqueeze(1), v = values.unsqueeze(1);
  const auto [mixed, lse] = attention_with_lse(q, k, v, options);  // [B,1,T,Dv], [B,1,T]
  const AttentionOptions plain{
      .program = ScoreProgram::masked(near), .scale = 1.0, .kv_lengths = lengths};
  const at::Tensor plain_lse = std::get<1>(attention_with_lse(q, k, v.narrow(-1, 0, 0), plain));
  const at::Tensor blind = plain_lse.isneginf();  // no key is in reach: both are -inf
  const at::Tensor share = (lse - plain_lse.masked_fill(blind, 0)).exp().unsqueeze(-1);
  AttentionOutput result;
  result.output = (mixed * share.to(mixed.scalar_type())).squeeze(1);
  if (weights == Weights::kReturn) {
    result.weights = (attention_weights(q, k, options) * share.detach()).squeeze(1);
  }
  return result;
}

void LocalPredictiveAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LocalPredictiveAttention(query_size=" << options_.query_size
         << ", size=" << options_.size << ", window=" << options_.window
         << ", normalized=" << bool_name(options_.normalized) << ")";
}

}  // namespace heed::nn
