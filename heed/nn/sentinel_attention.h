// Adaptive attention with a sentinel (Lu 2017): looking, or knowing already.
//
//   output = beta sentinel + (1 - beta) sum_s softmax_s(v . tanh(U k[s] + W q[t])) v[s]
//
// beta is the weight that v . tanh(V sentinel[t] + W q[t]) takes in the softmax over keys and
// sentinel together: sigmoid(sentinel's score - lse).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

// What an LSTM knows without looking: sigmoid(W x[t] + U h[t - 1]) * tanh(m[t]), of its input x,
// hidden state h and memory cell m after the step.
class VisualSentinelImpl : public torch::nn::Module {
 public:
  VisualSentinelImpl(int64_t input_size, int64_t hidden_size);

  void reset_parameters();

  // input [B,T,input_size], previous_hidden and cell [B,T,hidden_size] -> [B,T,hidden_size].
  at::Tensor forward(const at::Tensor& input, const at::Tensor& previous_hidden,
                     const at::Tensor& cell);

  void pretty_print(std::ostream& stream) const override;

 private:
  torch::nn::Linear input_projection_{nullptr}, hidden_projection_{nullptr};
};
TORCH_MODULE(VisualSentinel);

struct SentinelAttentionOptions {
  int64_t query_size;  // width of a query (the decoder's hidden state)
  int64_t key_size;    // width of a row of memory
  int64_t value_size;  // Dv, of the values and of the sentinel
  int64_t size;        // D, the width of the hidden layer
};

struct SentinelOutput {
  at::Tensor output;           // [B,T,Dv]
  at::Tensor sentinel_weight;  // [B,T], beta
  at::Tensor weights;          // [B,T,S] of the keys, 1 - beta together; if asked for; no gradient
};

class SentinelAttentionImpl : public torch::nn::Module {
 public:
  explicit SentinelAttentionImpl(const SentinelAttentionOptions& options);

  // Each as a linear layer of its width: the paper does not say.
  void reset_parameters();

  // memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries.
  at::Tensor keys(const at::Tensor& memory);

  // query [B,T,query_size], keys as above, values [B,S,Dv], sentinel [B,T,Dv], lengths [B] int64
  // or undefined.
  SentinelOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                         const at::Tensor& sentinel, const at::Tensor& lengths = {},
                         Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  SentinelAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      sentinel_projection_{nullptr};
  at::Tensor score_weight_;  // [1,D]
};
TORCH_MODULE(SentinelAttention);

}  // namespace heed::nn
