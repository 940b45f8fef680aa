#include "heed/nn/non_local_attention.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <torch/nn/init.h>

#include <algorithm>
#include <ostream>

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

using program::Expression;

NonLocalAttentionOptions non_local_options(NonLocalAttentionOptions options) {
  check_heads("NonLocalAttention", options.heads);
  TORCH_CHECK(options.channels > 0, "[NonLocalAttention] channels: expected at least 1, got ",
              options.channels);
  const int64_t half = std::max(options.channels / 2 / options.heads, int64_t{1}) * options.heads;
  if (options.key_channels == 0) options.key_channels = half;
  if (options.value_channels == 0) options.value_channels = half;
  TORCH_CHECK(
      options.key_channels % options.heads == 0 && options.value_channels % options.heads == 0,
      "[NonLocalAttention] key_channels, value_channels: expected multiples of heads = ",
      options.heads, ", got ", options.key_channels, ", ", options.value_channels);
  TORCH_CHECK(options.pool > 0, "[NonLocalAttention] pool: expected at least 1, got ",
              options.pool);
  TORCH_CHECK(0 <= options.dropout && options.dropout < 1,
              "[NonLocalAttention] dropout: expected in [0, 1), got ", options.dropout);
  TORCH_CHECK(options.score == NonLocalScore::kEmbeddedGaussian ||
                  (options.radius < 0 && options.positions.is_empty() && options.dropout == 0),
              "[NonLocalAttention] score: kDot has no softmax that radius, positions or dropout "
              "could change");
  return options;
}

// q [B,H,T,D], k [B,H,S,D], v [B,H,S,Dv] -> [B,H,T,Dv]. The smaller of the two products between:
// S x T or D x Dv numbers.
at::Tensor mix_without_softmax(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t T = q.size(2), S = k.size(2), D = q.size(3), Dv = v.size(3);
  const at::Tensor mixed = T * S * (D + Dv) < D * Dv * (T + S)
                               ? at::matmul(at::matmul(q, k.transpose(2, 3)), v)
                               : at::matmul(q, at::matmul(k.transpose(2, 3), v));
  return mixed / S;
}

}  // namespace

NonLocalAttentionImpl::NonLocalAttentionImpl(const NonLocalAttentionOptions& options)
    : options_(non_local_options(options)) {
  const NonLocalAttentionOptions& o = options_;
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(o.bias)));
  };
  query_projection_ = linear("query_projection", o.channels, o.key_channels);
  key_projection_ = linear("key_projection", o.channels, o.key_channels);
  value_projection_ = linear("value_projection", o.channels, o.value_channels);
  output_projection_ = linear("output_projection", o.value_channels, o.channels);
  gamma_ = register_parameter("gamma", at::empty({1}));
  if (o.positions) register_module("positions", o.positions);
  reset_parameters();
}

void NonLocalAttentionImpl::reset_parameters() {
  for (const torch::nn::Linear& projection :
       {query_projection_, key_projection_, value_projection_, output_projection_}) {
    torch::nn::init::xavier_uniform_(projection->weight);
    if (options_.bias) torch::nn::init::zeros_(projection->bias);
  }
  torch::nn::init::zeros_(gamma_);
}

AttentionOutput NonLocalAttentionImpl::forward(const at::Tensor& x, Weights weights) {
  check_feature_map("NonLocalAttention", x, options_.channels);
  const at::Tensor rows = rows_of_map(x).contiguous();  // [B,T,C], read by three projections
  const MapGrid grid = {.columns = x.size(3),
                        .key_columns = (x.size(3) + options_.pool - 1) / options_.pool,
                        .stride = options_.pool};
  const auto heads = [&](const at::Tensor& projected) {
    return heads_of(projected, options_.heads);
  };
  AttentionOutput result =
      attend(heads(query_projection_(rows)), heads(pooled(key_projection_(rows), x)),
             heads(pooled(value_projection_(rows), x)), grid, weights);
  const at::Tensor change = output_projection_(join_heads(result.output));  // [B,T,C]
  result.output = at::addcmul(x, gamma_, map_of_rows(change, x));
  return result;
}

at::Tensor NonLocalAttentionImpl::pooled(const at::Tensor& rows, const at::Tensor& x) const {
  const int64_t n = options_.pool;
  if (n == 1) return rows;
  return rows_of_map(at::max_pool2d(map_of_rows(rows, x), {n, n}, {n, n}, /*padding=*/0,
                                    /*dilation=*/1, /*ceil_mode=*/true));
}

AttentionOutput NonLocalAttentionImpl::attend(const at::Tensor& q, const at::Tensor& k,
                                              const at::Tensor& v, const MapGrid& grid,
                                              Weights weights) {
  if (options_.score == NonLocalScore::kDot) {
    AttentionOutput result = {.output = mix_without_softmax(q, k, v), .weights = {}};
    if (weights == Weights::kReturn) {
      result.weights = at::matmul(q.detach(), k.detach().transpose(2, 3)) / k.size(2);
    }
    return result;
  }
  AttentionHeads heads{.q = q, .k = k, .offset = {}, .scale = options_.scale};
  AttentionOptions options{.scale = options_.scale,
                           .dropout_p = is_training() ? options_.dropout : 0};
  Expression score = program::score();
  if (options_.positions) score = options_.positions->score_mod_on(grid, score, heads);
  if (options_.radius >= 0) {
    const Expression near = abs(grid.query_row() - grid.key_row()) <= options_.radius &&
                            abs(grid.query_column() - grid.key_column()) <= options_.radius;
    options.program = program::ScoreProgram(score, near);
  } else if (options_.positions) {
    options.program = program::ScoreProgram(score);
  }
  AttentionOutput result = {.output = attention(heads.q, heads.k, v, options), .weights = {}};
  if (weights == Weights::kReturn) {
    result.weights = attention_weights(heads.q, heads.k, options);
  }
  return result;
}

void NonLocalAttentionImpl::pretty_print(std::ostream& stream) const {
  const NonLocalAttentionOptions& o = options_;
  stream << "heed::nn::NonLocalAttention(channels=" << o.channels
         << ", key_channels=" << o.key_channels << ", value_channels=" << o.value_channels
         << ", heads=" << o.heads
         << ", score=" << (o.score == NonLocalScore::kDot ? "dot" : "embedded_gaussian")
         << ", scale=" << o.scale << ", pool=" << o.pool << ", radius=" << o.radius
         << ", dropout=" << o.dropout << ")";
}

}  // namespace heed::nn
