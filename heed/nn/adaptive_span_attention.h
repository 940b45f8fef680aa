// Adaptive span (Sukhbaatar 2019): heads learn how far to look.
//
//   weights[t,s] ~ m[h](t - s) exp(<q, k> / sqrt(D)), which is softmax(score + log m)
//   m[h](x) = clamp((ramp + z[h] - x) / ramp, 0, 1),  z[h] = max_span * span[h]
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct AdaptiveSpanAttentionOptions {
  int64_t max_span;                // the farthest key that may be seen whole
  int64_t heads = 1;               // H
  int64_t ramp = 32;               // keys over which the mask falls from 1 to 0
  bool causal = true;              // keys s <= t only; otherwise both ways, x = |t - s|
  double initial_span = 0;         // of span, in [0, 1]
  double span_loss_weight = 2e-6;  // lambda of the loss
  double dropout = 0;              // of weights, while training
};

class AdaptiveSpanAttentionImpl : public torch::nn::Module {
 public:
  explicit AdaptiveSpanAttentionImpl(const AdaptiveSpanAttentionOptions& options);

  void reset_parameters();

  // Puts the spans back into [0, 1]: after each step of the optimiser.
  void clamp_span();

  // []: lambda times the mean of z over heads, to be added to the loss.
  at::Tensor span_loss() const;

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S]. Keys where m is 0 are never read.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  AdaptiveSpanAttentionOptions options_;
  at::Tensor span_;  // [H], in [0, 1]
};
TORCH_MODULE(AdaptiveSpanAttention);

}  // namespace heed::nn
