// Multi-head attention with each module of positions, and a key-value cache: the C++ blocks of the
// pages in docs/mechanisms/. Needs LibTorch and heed_nn.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cstdio>

#include "heed/nn/alibi.h"
#include "heed/nn/learned_positions.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/relative_positions.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/transformer_xl_positions.h"

using namespace heed::nn;

namespace {

// Each takes x [B,T,64] and gives [B,T,64].

at::Tensor multi_head(const at::Tensor& x) {
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 8, .kv_heads = 2});
  const at::Tensor padding = at::zeros({x.size(0), x.size(1)}, at::kBool);
  const AttentionOutput result = attention->attend(x, x, x,
                                                   {.causal = heed::Causal::kTopLeft,
                                                    .window = {.left = 16, .right = 0},
                                                    .key_padding = padding,
                                                    .weights = Weights::kReturn});
  return result.output;  // result.weights is [B,8,T,T]
}

at::Tensor cached(const at::Tensor& x) {
  const at::NoGradGuard inference;
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 8, .kv_heads = 2});
  KeyValueCache cache = attention->make_cache(x.size(0), /*capacity=*/16, /*grow=*/true);
  at::Tensor out;
  for (const at::Tensor& token : x.split(1, 1)) {  // [B,1,64]
    out = attention
              ->attend(token, token, token, {.causal = heed::Causal::kBottomRight, .cache = &cache})
              .output;
  }
  return out;
}

at::Tensor sinusoidal(const at::Tensor& x) {
  SinusoidalPositions positions(SinusoidalPositionsOptions{.embed_size = 64});
  return positions(x);
}

at::Tensor learned(const at::Tensor& x) {
  LearnedPositions positions(LearnedPositionsOptions{.length = 512, .embed_size = 64});
  return positions(x);
}

at::Tensor relative(const at::Tensor& x) {
  RelativePositions positions(RelativePositionsOptions{.head_size = 8, .max_distance = 16});
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 8, .positions = positions.ptr()});
  return attention(x, x, x).output;
}

at::Tensor t5(const at::Tensor& x) {
  T5Bias bias(T5BiasOptions{.heads = 8, .bidirectional = true});
  MultiHeadAttention attention(MultiHeadAttentionOptions{
      .embed_size = 64, .heads = 8, .bias = false, .scale = 1.0, .positions = bias.ptr()});
  return attention(x, x, x).output;
}

at::Tensor transformer_xl(const at::Tensor& x) {
  TransformerXLPositions positions(TransformerXLPositionsOptions{.embed_size = 64, .heads = 8});
  MultiHeadAttention attention(MultiHeadAttentionOptions{
      .embed_size = 64, .heads = 8, .bias = false, .positions = positions.ptr()});
  const at::Tensor newest = x.narrow(1, x.size(1) / 2, x.size(1) - x.size(1) / 2);
  return attention->attend(newest, x, x, {.causal = heed::Causal::kBottomRight}).output;
}

at::Tensor alibi(const at::Tensor& x) {
  Alibi positions(AlibiOptions{.heads = 8});
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 8, .positions = positions.ptr()});
  return attention->attend(x, x, x, {.causal = heed::Causal::kTopLeft}).output;
}

at::Tensor rotary(const at::Tensor& x) {
  RotaryPositions positions(RotaryPositionsOptions{
      .head_size = 8,
      .scaling = {.kind = RotaryScaling::Kind::kYarn, .factor = 4, .original_length = 2048}});
  MultiHeadAttention attention(
      MultiHeadAttentionOptions{.embed_size = 64, .heads = 8, .positions = positions.ptr()});
  return attention->attend(x, x, x, {.causal = heed::Causal::kTopLeft}).output;
}

}  // namespace

int main() {
  const at::Tensor x = at::randn({2, 24, 64});
  for (const auto mechanism :
       {multi_head, cached, sinusoidal, learned, relative, t5, transformer_xl, alibi, rotary}) {
    const at::Tensor out = mechanism(x);
    if (out.size(2) != 64 || !out.isfinite().all().item<bool>()) return 1;
    std::printf("[%d,%d,%d]\n", static_cast<int>(out.size(0)), static_cast<int>(out.size(1)),
                static_cast<int>(out.size(2)));
  }
  return 0;
}
