// Top-k attention (Explicit Sparse Transformer, Zhao 2019): <q, k> / sqrt(D) for the keys with the
// row's k largest scores, ties kept. What is dropped leaves the softmax: it gets no weight at all.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct TopKAttentionOptions {
  double sparsity_factor;  // share of keys kept, in (0, 1]: k = max(1, int(factor * S))
  int64_t heads = 1;       // H
  double dropout = 0;      // of weights, while training
};

class TopKAttentionImpl : public torch::nn::Module {
 public:
  explicit TopKAttentionImpl(const TopKAttentionOptions& options);

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  TopKAttentionOptions options_;
};
TORCH_MODULE(TopKAttention);

}  // namespace heed::nn
