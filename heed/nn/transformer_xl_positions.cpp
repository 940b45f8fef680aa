#include "heed/nn/transformer_xl_positions.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <ostream>

#include "heed/nn/heads.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/ops/score_program.h"

namespace heed::nn {
namespace {

// Of E: up to here the table takes less time than the wider product, by half at 1024 keys; beyond,
// its memory grows with T S.
constexpr int64_t kWidestTable = 8;

}  // namespace

TransformerXLPositionsImpl::TransformerXLPositionsImpl(const TransformerXLPositionsOptions& options)
    : options_(options) {
  TransformerXLPositionsOptions& o = options_;
  TORCH_CHECK(o.embed_size > 0 && o.embed_size % 2 == 0,
              "[TransformerXLPositions] embed_size: expected an even number, got ", o.embed_size);
  TORCH_CHECK(o.heads > 0 && (o.head_size > 0 || o.embed_size % o.heads == 0),
              "[TransformerXLPositions] heads: expected a divisor of embed_size = ", o.embed_size,
              ", got ", o.heads, "; or give head_size");
  if (o.head_size == 0) o.head_size = o.embed_size / o.heads;
  const int64_t width = o.heads * o.head_size;
  projection_ = register_module("projection", linear_without_bias(o.embed_size, width));
  content_bias_ = register_parameter("content_bias", at::empty({o.heads, o.head_size}));
  position_bias_ = register_parameter("position_bias", at::empty({o.heads, o.head_size}));
  reset_parameters();
}

void TransformerXLPositionsImpl::reset_parameters() {
  for (const at::Tensor& parameter : parameters()) torch::nn::init::normal_(parameter, 0, 0.02);
}

program::Expression TransformerXLPositionsImpl::score_mod(const program::Expression& score,
                                                          AttentionHeads& heads) {
  const at::Tensor q_position = heads.q + position_bias_.unsqueeze(-2);  // [B,H,T,D]
  heads.q = heads.q + content_bias_.unsqueeze(-2);
  int64_t low = 0, high = 0;
  if (heads.offset.defined()) {
    low = heads.offset.min().item<int64_t>();
    high = heads.offset.max().item<int64_t>();
  }
  // The distances that there are.
  const int64_t first = low - heads.k.size(2) + 1, last = high + heads.q.size(2) - 1;
  if (last - first + 1 > kWidestTable * options_.embed_size) {
    widen(heads, q_position);
    return score;
  }
  const at::Tensor distances = at::arange(first, last + 1, at::kLong);
  const auto [sin, cos] = waves(distances, heads.q.scalar_type());
  const at::Tensor r = projection_(at::cat({sin, cos}, -1))  // [R,H*D] -> [H,D,R]
                           .unflatten(-1, {options_.heads, options_.head_size})
                           .permute({1, 2, 0});
  const program::Table products = table(at::matmul(q_position * heads.scale, r));  // [B,H,T,R]
  const program::Expression distance = place_of(heads.offset) - program::s();
  return score + products.at({program::b(), program::h(), program::t(), distance - first});
}

std::pair<at::Tensor, at::Tensor> TransformerXLPositionsImpl::waves(const at::Tensor& places,
                                                                    at::ScalarType type) const {
  const at::Tensor angles = wave_angles(places, options_.embed_size, options_.base);
  return {angles.sin().to(type), angles.cos().to(type)};
}

void TransformerXLPositionsImpl::widen(AttentionHeads& heads, const at::Tensor& q_position) {
  const at::ScalarType type = heads.q.scalar_type();
  const at::Tensor z = at::matmul(  // [B,H,T,E]
      q_position, projection_->weight.view({options_.heads, options_.head_size, -1}));
  const std::vector<at::Tensor> halves = z.chunk(2, -1);
  const at::Tensor &z_sin = halves[0], &z_cos = halves[1];
  auto [sin_t, cos_t] = waves(places_of(heads.offset, z.size(2)), type);
  if (heads.offset.defined()) {
    sin_t = sin_t.unsqueeze(1);  // [B,1,T,E/2]
    cos_t = cos_t.unsqueeze(1);
  }
  const auto [sin_s, cos_s] = waves(places_of({}, heads.k.size(2)), type);
  // sin(t - s) = sin t cos s - cos t sin s, cos(t - s) = cos t cos s + sin t sin s
  heads.q = at::cat({heads.q, z_cos * sin_t - z_sin * cos_t, z_sin * sin_t + z_cos * cos_t}, -1);
  const at::Tensor of_keys = at::cat({sin_s, cos_s}, -1);  // [S,E]
  heads.k = at::cat({heads.k, of_keys.expand({heads.k.size(0), heads.k.size(1), -1, -1})}, -1);
}

void TransformerXLPositionsImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::TransformerXLPositions(embed_size=" << options_.embed_size
         << ", heads=" << options_.heads << ", base=" << options_.base << ")";
}

}  // namespace heed::nn
