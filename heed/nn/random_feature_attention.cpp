#include "heed/nn/random_feature_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "heed/nn/heads.h"
#include "heed/nn/linear_attention.h"

namespace heed::nn {

RandomFeatureAttentionImpl::RandomFeatureAttentionImpl(const RandomFeatureAttentionOptions& options)
    : options_(options) {
  check_heads("RandomFeatureAttention", options.heads);
  TORCH_CHECK(options.features > 0, "[RandomFeatureAttention] features: expected at least 1, got ",
              options.features);
  projection_ = register_buffer("projection", at::empty({options.features, options.head_size}));
  reset_parameters();
}

void RandomFeatureAttentionImpl::reset_parameters() {
  const at::NoGradGuard no_grad;
  const int64_t m = options_.features, D = options_.head_size;
  std::vector<at::Tensor> blocks;
  for (int64_t rows = 0; rows < m; rows += D) {
    // Householder's Q leans to one side; with R's signs its rows point everywhere alike.
    const auto [q, r] = at::linalg_qr(at::randn({D, D}));
    blocks.push_back(q * r.diagonal().sign());
  }
  const at::Tensor lengths = at::randn({m, D}).norm(2, {1}, /*keepdim=*/true);  // of normal rows
  projection_.copy_(at::cat(blocks).narrow(0, 0, m) * lengths);
}

at::Tensor RandomFeatureAttentionImpl::exponents(const at::Tensor& x) const {
  return at::matmul(x, projection_.t() * std::pow(static_cast<double>(x.size(-1)), -0.25));
}

AttentionOutput RandomFeatureAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                                    const at::Tensor& values,
                                                    const at::Tensor& lengths, Weights weights) {
  const int64_t H = options_.heads;
  at::Tensor key_rows = heads_of(keys, H);
  if (lengths.defined()) {  // padding may hold anything, and norms' gradients would pass it on
    const int64_t S = keys.size(1);
    key_rows = key_rows.masked_fill(keys_beyond(lengths, S).view({-1, 1, S, 1}), 0);
  }
  const at::Tensor norms = key_rows.square().sum(-1, /*keepdim=*/true) /
                           (2 * std::sqrt(static_cast<double>(key_rows.size(-1))));  // [B,H,S,1]
  const at::Tensor q = exponents(heads_of(query, H));                                // [B,H,T,m]
  const at::Tensor k = exponents(key_rows) - norms;                                  // [B,H,S,m]
  AttentionOutput result;
  result.output =
      mix_by_features(q, k, heads_of(values, H), lengths, options_.causal, FeatureMap::kExp);
  if (weights == Weights::kReturn) {
    result.weights = weights_of_powers(q, k, lengths, options_.causal);
  }
  return result;
}

void RandomFeatureAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::RandomFeatureAttention(head_size=" << options_.head_size
         << ", features=" << options_.features << ", heads=" << options_.heads
         << ", causal=" << bool_name(options_.causal) << ")";
}

}  // namespace heed::nn
