// Cosine attention (Graves 2014; its learnt temperature as in Liu 2022):
// score = exp(logit_scale) * <q / |q|, k / |k|>.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct CosineAttentionOptions {
  double initial_scale = 10;  // a cosine is at most 1, which is too flat for a softmax
  double max_scale = 100;     // exp(logit_scale) is clamped here: a temperature of 0.01 or more
};

class CosineAttentionImpl : public torch::nn::Module {
 public:
  explicit CosineAttentionImpl(const CosineAttentionOptions& options = {});

  // logit_scale = log(initial_scale).
  void reset_parameters();

  // query [B,T,D], keys [B,S,D], values [B,S,Dv]; lengths [B] int64 or undefined. Returns output
  // [B,T,Dv], weights [B,T,S]. A row that is 0 has cosine 0 with all others.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  CosineAttentionOptions options_;
  at::Tensor logit_scale_;  // []
};
TORCH_MODULE(CosineAttention);

}  // namespace heed::nn
