// Dot-product attention (Luong 2015; scaled, Vaswani 2017): score = scale * <q, k>.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct DotAttentionOptions {
  bool scaled = true;  // scale = 1 / sqrt(D), so that scores stay of order 1; otherwise 1
};

class DotAttentionImpl : public torch::nn::Module {
 public:
  explicit DotAttentionImpl(DotAttentionOptions options = {}) : options_(options) {}

  // query [B,T,D], keys [B,S,D], values [B,S,Dv]; lengths [B] int64 counts the keys of each
  // element, undefined means all S. Returns output [B,T,Dv], weights [B,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  DotAttentionOptions options_;
};
TORCH_MODULE(DotAttention);

}  // namespace heed::nn
