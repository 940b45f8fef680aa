// Local attention (Luong 2015, local-m; Beltagy 2020): <q, k> / sqrt(D) where |t - s| <= window.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/core/attention.h"
#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LocalAttentionOptions {
  int64_t window;                 // keys seen on either side of the query's own place
  int64_t heads = 1;              // H
  Causal causal = Causal::kNone;  // both ways; otherwise back only, from that corner
  double dropout = 0;             // of weights, while training
};

class LocalAttentionImpl : public torch::nn::Module {
 public:
  explicit LocalAttentionImpl(const LocalAttentionOptions& options);

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  LocalAttentionOptions options_;
};
TORCH_MODULE(LocalAttention);

}  // namespace heed::nn
