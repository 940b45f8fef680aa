#include "heed/nn/linear_attention.h"

#include <ATen/ops/elu.h>

#include "heed/nn/heads.h"
#include "heed/ops/linear_attention.h"

namespace heed::nn {
namespace {

// Features of 0 whatever the map: elu(x) + 1, max(x, 0) and exp(x) all vanish there.
constexpr double kVanishing = -1e4;

// [B,1,S,1]: keys from lengths [B] on.
at::Tensor rows_beyond(const at::Tensor& lengths, int64_t S) {
  return keys_beyond(lengths, S).view({-1, 1, S, 1});
}

const char* name_of(FeatureMap feature_map) {
  return feature_map == FeatureMap::kElu ? "elu"
                                         : (feature_map == FeatureMap::kRelu ? "relu" : "exp");
}

}  // namespace

LinearAttentionImpl::LinearAttentionImpl(const LinearAttentionOptions& options)
    : options_(options) {
  check_heads("LinearAttention", options.heads);
}

AttentionOutput LinearAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                             const at::Tensor& values, const at::Tensor& lengths,
                                             Weights weights) {
  const auto [heads, causal, feature_map] = options_;
  const at::Tensor q = heads_of(query, heads), k = heads_of(keys, heads);
  AttentionOutput result;
  result.output = mix_by_features(q, k, heads_of(values, heads), lengths, causal, feature_map);
  if (weights == Weights::kReturn) {
    const auto phi = [&](const at::Tensor& x) {
      return feature_map == FeatureMap::kElu ? at::elu(x) + 1 : x.relu();
    };
    result.weights = feature_map == FeatureMap::kExp
                         ? weights_of_powers(q, k, lengths, causal)
                         : weights_of_features(phi(q), phi(k), lengths, causal);
  }
  return result;
}

void LinearAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LinearAttention(heads=" << options_.heads
         << ", causal=" << bool_name(options_.causal)
         << ", feature_map=" << name_of(options_.feature_map) << ")";
}

at::Tensor mix_by_features(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& lengths, bool causal, FeatureMap feature_map) {
  const heed::LinearAttentionOptions options{.feature_map = feature_map, .causal = causal};
  if (!lengths.defined()) return join_heads(linear_attention(q, k, v, options));
  const at::Tensor beyond = rows_beyond(lengths, k.size(2));
  const at::Tensor out =
      linear_attention(q, k.masked_fill(beyond, kVanishing), v.masked_fill(beyond, 0), options);
  if (feature_map != FeatureMap::kExp) return join_heads(out);
  // Its weights are relative to the row's largest, also where all keys are left out.
  return join_heads(out.masked_fill(lengths.eq(0).view({-1, 1, 1, 1}), 0));
}

at::Tensor weights_of_features(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lengths,
                               bool causal) {
  return attention_weights(q, k,
                           {.program = program::ScoreProgram(log(program::score())),
                            .causal = causal ? Causal::kTopLeft : Causal::kNone,
                            .scale = 1.0,
                            .kv_lengths = lengths});
}

at::Tensor weights_of_powers(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lengths,
                             bool causal) {
  if (k.size(2) == 0) return weights_of_features(q, k, lengths, causal);
  const at::Tensor seen =
      lengths.defined() ? k.masked_fill(rows_beyond(lengths, k.size(2)), kVanishing) : k;
  // Each feature relative to its largest over the keys, and what a query then has to its own
  // largest: factors of a row cancel, and the largest term of its sums is 1.
  const at::Tensor largest = seen.amax(-2, /*keepdim=*/true);  // [B,H,1,m]
  const at::Tensor raised = q + largest;                       // [B,H,T,m]
  return weights_of_features((raised - raised.amax(-1, /*keepdim=*/true)).exp(),
                             (seen - largest).exp(), lengths, causal);
}

}  // namespace heed::nn
