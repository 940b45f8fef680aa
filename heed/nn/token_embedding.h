// Tokens into vectors, x[b,t] = dropout(positions(weight[tokens[b,t]])), and with the same matrix
// vectors into logits, output weight^T (Press 2017).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>

#include <optional>

#include "heed/nn/transformer_layer.h"

namespace heed::nn {

struct TokenEmbeddingOptions {
  int64_t vocabulary_size;  // V
  int64_t embed_size;       // E
  bool scaled = false;      // rows times sqrt(E) (Vaswani 2017)
  // A token whose row starts as 0 and gets no gradient from where it is read.
  std::optional<int64_t> padding_index = std::nullopt;
  // SinusoidalPositions, LearnedPositions or any module of (x [B,T,E], offset [B]).
  torch::nn::AnyModule positions = {};
  double dropout = 0;  // probability with which an element of x is dropped while training
  // kGlorot: normal with deviation 1 / sqrt(E), so that logits start with deviation 1; kGpt2: 0.02.
  Initialization initialization = Initialization::kGlorot;
};

class TokenEmbeddingImpl : public torch::nn::Module {
 public:
  explicit TokenEmbeddingImpl(const TokenEmbeddingOptions& options);

  // As options.initialization says; positions keep theirs.
  void reset_parameters();

  // tokens [B,T] int64, offset [B] int64, the place of each element's first (undefined: 0)
  // -> [B,T,E].
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& offset = {});

  // output [...,E] -> [...,V].
  at::Tensor logits(const at::Tensor& output) const;

  void pretty_print(std::ostream& stream) const override;

 private:
  TokenEmbeddingOptions options_;
  at::Tensor weight_;  // [V,E]
};
TORCH_MODULE(TokenEmbedding);

}  // namespace heed::nn
