// Predictive local attention (Luong 2015, local-p): the query says where to look.
//
//   score = <q, k> - (s - centre[t])^2 / (2 sigma^2)   where |s - centre[t]| <= window
//   centre[t] = S sigmoid(v . tanh(W q[t])),  sigma = window / 2
//
// Luong multiplies by the Gaussian after the softmax, so that weights sum to less than 1:
// normalized = false, at the price of a second sweep over the scores.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LocalPredictiveAttentionOptions {
  int64_t query_size;      // D, of a query and a key
  int64_t size;            // width of the hidden layer that predicts the centre
  double window;           // keys seen on either side of the centre
  bool normalized = true;  // the Gaussian is part of the softmax
  double dropout = 0;      // of weights, while training
};

class LocalPredictiveAttentionImpl : public torch::nn::Module {
 public:
  explicit LocalPredictiveAttentionImpl(const LocalPredictiveAttentionOptions& options);

  // Uniform in [-0.1, 0.1] (Luong 2015).
  void reset_parameters();

  // query [B,T,D], lengths [B] -> centres [B,T] in (0, length).
  at::Tensor centres(const at::Tensor& query, const at::Tensor& lengths);

  // query [B,T,D], keys [B,S,D] (multiply them by a matrix first for Luong's general score),
  // values [B,S,Dv], lengths [B] int64 or undefined. Returns output [B,T,Dv], weights [B,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  LocalPredictiveAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr};
  at::Tensor score_weight_;  // [1,size]
};
TORCH_MODULE(LocalPredictiveAttention);

}  // namespace heed::nn
