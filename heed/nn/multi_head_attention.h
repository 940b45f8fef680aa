// Multi-head attention (Vaswani 2017), with grouped key/value heads (Ainslie 2023).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "heed/core/attention.h"
#include "heed/nn/attention_output.h"

namespace heed::nn {

struct MultiHeadAttentionOptions {
  int64_t embed_size;      // E, a multiple of heads
  int64_t heads;           // H
  int64_t kv_heads = 0;    // Hkv, divides H; 0 means H
  int64_t key_size = 0;    // width of key rows; 0 means E
  int64_t value_size = 0;  // width of value rows; 0 means E
  bool bias = true;
};

class MultiHeadAttentionImpl : public torch::nn::Module {
 public:
  explicit MultiHeadAttentionImpl(const MultiHeadAttentionOptions& options);

  // query [B,T,E], key [B,S,key_size], value [B,S,value_size], lengths [B] int64 or undefined.
  // Returns output [B,T,E], weights [B,H,T,S]. Self-attention passes one tensor three times.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const at::Tensor& lengths = {}, Causal causal = Causal::kNone,
                          Weights weights = Weights::kNone);

 private:
  MultiHeadAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      value_projection_{nullptr}, output_projection_{nullptr};
};
TORCH_MODULE(MultiHeadAttention);

}  // namespace heed::nn
