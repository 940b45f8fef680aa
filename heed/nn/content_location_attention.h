// Content and location in one score (Yang 2018): score = scale * <q, k> - (s - P)^2 / (2 (W/2)^2),
// with a centre P and a window W that are predicted from the query.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct ContentLocationAttentionOptions {
  int64_t size;        // D, the width of queries and keys
  bool scaled = true;  // scale = 1 / sqrt(D); otherwise 1
};

class ContentLocationAttentionImpl : public torch::nn::Module {
 public:
  explicit ContentLocationAttentionImpl(const ContentLocationAttentionOptions& options);

  // Glorot's uniform, as the Transformer's matrices.
  void reset_parameters();

  // query [B,T,D], keys [B,S,D], values [B,S,Dv]; lengths [B] int64 or undefined. Returns output
  // [B,T,Dv], weights [B,T,S]. Keys are counted from 0; with n of them, P = n sigmoid(u . h) and
  // W = n sigmoid(w . h) of the hidden layer h = tanh(H q).
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  ContentLocationAttentionOptions options_;
  torch::nn::Linear hidden_projection_, centre_projection_, window_projection_;
};
TORCH_MODULE(ContentLocationAttention);

}  // namespace heed::nn
