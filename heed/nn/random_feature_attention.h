// Random features (FAVOR+, Choromanski 2021): linear attention that estimates softmax attention.
//
//   exp(<q, k> / sqrt(D)) = E_w[phi(q) phi(k)],  phi(x) = exp(<w, x'> - |x'|^2 / 2),  x' = x /
//   D^1/4
//
// for normal w. |q'|^2 / 2 is the same for all keys of a row and cancels; the exponents go to the
// operator as they are (its map is exp), which keeps each weight relative to its row's largest, so
// no stabiliser is needed here.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct RandomFeatureAttentionOptions {
  int64_t head_size;    // D, of a query and a key within a head
  int64_t features;     // m
  int64_t heads = 1;    // H
  bool causal = false;  // keys s <= t only
};

class RandomFeatureAttentionImpl : public torch::nn::Module {
 public:
  explicit RandomFeatureAttentionImpl(const RandomFeatureAttentionOptions& options);

  // Draws the projection anew, which a model in training does every so many steps. Its rows are
  // orthogonal within blocks of D, which lowers the variance.
  void reset_parameters();

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  // x [B,H,T,D] -> log phi(x) + |x'|^2 / 2 [B,H,T,m].
  at::Tensor exponents(const at::Tensor& x) const;

  RandomFeatureAttentionOptions options_;
  at::Tensor projection_;  // [m,D]
};
TORCH_MODULE(RandomFeatureAttention);

}  // namespace heed::nn
