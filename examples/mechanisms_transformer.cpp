// The Transformer's blocks and gradient checkpointing: the C++ blocks of the pages in
// docs/mechanisms/. Needs LibTorch and heed_nn.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cstdio>

#include "heed/nn/checkpoint.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/token_embedding.h"
#include "heed/nn/transformer_decoder.h"
#include "heed/nn/transformer_encoder.h"

using namespace heed::nn;

namespace {

constexpr int64_t V = 100, E = 64;

// Of what was written so far, [B,T], to what the source says, tokens [B,S]; -> [B,1+tokens].
at::Tensor translate(const at::Tensor& source, int64_t tokens) {
  const at::NoGradGuard inference;
  const torch::nn::AnyModule places(
      SinusoidalPositions(SinusoidalPositionsOptions{.embed_size = E}));
  TokenEmbedding embedding(TokenEmbeddingOptions{
      .vocabulary_size = V, .embed_size = E, .scaled = true, .positions = places});
  const TransformerStackOptions options{.layers = 2, .layer = {.embed_size = E, .heads = 8}};
  TransformerEncoder encoder(options);
  TransformerDecoder decoder(options);

  const at::Tensor memory = encoder(embedding(source)).output;  // [B,S,E]
  TransformerDecoderCache cache = decoder->make_cache(source.size(0), tokens);
  at::Tensor written = at::zeros({source.size(0), 1}, at::kLong);
  for (int64_t t = 0; t < tokens; ++t) {
    const at::Tensor x = embedding(written.narrow(1, t, 1), cache.lengths());  // [B,1,E]
    const at::Tensor output = decoder->attend(x, memory, {}, &cache).output;
    written = at::cat({written, embedding->logits(output).argmax(2)}, 1);
  }
  return written;
}

// Llama's layers: no cross-attention, norms first and by root mean squares, gated units.
at::Tensor language_model(const at::Tensor& x) {
  TransformerStackOptions options{.layers = 4,
                                  .layer = {.embed_size = E,
                                            .heads = 8,
                                            .kv_heads = 2,
                                            .hidden_size = 176,
                                            .activation = Activation::kSwiglu,
                                            .norm = NormKind::kRms,
                                            .norm_first = true,
                                            .bias = false,
                                            .cross_attention = false}};
  options.layer.positions = RotaryPositions(RotaryPositionsOptions{.head_size = 8}).ptr();
  TransformerDecoder decoder(options);
  return decoder(x).output;
}

// Gradients of a stack that keeps only what enters each of its layers.
at::Tensor trained_in_less_memory(const at::Tensor& x) {
  TransformerEncoder encoder(TransformerStackOptions{
      .layers = 4, .layer = {.embed_size = E, .heads = 8, .dropout = 0.1}, .checkpoint = true});
  at::Tensor output = encoder(x).output;
  // Around anything else: what the function reads, here the layer's parameters, gets gradients too.
  TransformerEncoderLayer last(TransformerLayerOptions{.embed_size = E, .heads = 8});
  const auto function = [last](const at::Tensor& rows) mutable { return last(rows).output; };
  output = checkpoint(function, output);
  output.square().mean().backward();
  return x.grad();
}

}  // namespace

int main() {
  const at::Tensor written = translate(at::randint(V, {2, 24}, at::kLong), /*tokens=*/5);
  std::printf("[%d,%d]\n", static_cast<int>(written.size(0)), static_cast<int>(written.size(1)));
  const at::Tensor x = at::randn({2, 24, E}).requires_grad_();
  for (const auto block : {language_model, trained_in_less_memory}) {
    const at::Tensor out = block(x);
    if (out.size(2) != E || !out.isfinite().all().item<bool>()) return 1;
    std::printf("[%d,%d,%d]\n", static_cast<int>(out.size(0)), static_cast<int>(out.size(1)),
                static_cast<int>(out.size(2)));
  }
  return 0;
}
