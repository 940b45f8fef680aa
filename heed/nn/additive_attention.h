// Additive (MLP) attention (Bahdanau 2015): score = v . tanh(W q + U k).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct AdditiveAttentionOptions {
  int64_t query_size;  // width of a query
  int64_t key_size;    // width of a row of memory
  int64_t size;        // D, the width of the hidden layer
};

class AdditiveAttentionImpl : public torch::nn::Module {
 public:
  explicit AdditiveAttentionImpl(const AdditiveAttentionOptions& options);

  // memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries.
  at::Tensor keys(const at::Tensor& memory);

  // query [B,T,query_size], keys as above, values [B,S,Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,Dv], weights [B,T,S]. Nothing of size B x T x S x D is stored.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

 private:
  torch::nn::Linear query_projection_, key_projection_;
  at::Tensor score_weight_;  // [1,D]
};
TORCH_MODULE(AdditiveAttention);

}  // namespace heed::nn
