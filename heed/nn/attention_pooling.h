// Pooling by attention (Yang 2016; Lin 2017): learnt queries u ask one sequence.
//
//   score[i,s] = <u[i], tanh(W x[s] + b)>, without hidden layer <u[i], x[s]>
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct AttentionPoolingOptions {
  int64_t embed_size;       // E, width of a row
  int64_t queries = 1;      // learnt ones, one vector each
  int64_t hidden_size = 0;  // of the hidden layer; 0: none
};

class AttentionPoolingImpl : public torch::nn::Module {
 public:
  explicit AttentionPoolingImpl(const AttentionPoolingOptions& options);

  // Each as a linear layer of its width: the papers do not say.
  void reset_parameters();

  // x [B,S,E], lengths [B] int64 or undefined; an element of length 0 gives 0.
  // Returns output [B,queries,E], weights [B,queries,S].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  AttentionPoolingOptions options_;
  torch::nn::Linear projection_{nullptr};  // null without hidden layer
  at::Tensor query_;                       // [queries,hidden_size or E]
};
TORCH_MODULE(AttentionPooling);

}  // namespace heed::nn
