// Location-sensitive attention (Chorowski 2015): score = v . tanh(W q + U k + V f) with features
// f = F * previous of the weights that the decoder's step before gave (a convolution).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LocationSensitiveAttentionOptions {
  int64_t query_size;    // width of a query
  int64_t key_size;      // width of a row of memory
  int64_t size;          // D, the width of the hidden layer
  int64_t filters = 10;  // features of the previous weights around each place
  int64_t width = 201;   // places that a filter sees, odd: as many before as after
};

class LocationSensitiveAttentionImpl : public torch::nn::Module {
 public:
  explicit LocationSensitiveAttentionImpl(const LocationSensitiveAttentionOptions& options);

  // Matrices and v from N(0, 0.01^2), the bias 0 (Chorowski 2015).
  void reset_parameters();

  // memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all steps.
  at::Tensor keys(const at::Tensor& memory);

  // One step: query [B,1,query_size], keys as above, values [B,S,Dv], previous [B,1,S] the weights
  // of the step before (or their sum so far), undefined at the first; lengths [B] int64 or
  // undefined. Returns output [B,1,Dv], weights [B,1,S]: always, for the next step, and with a
  // gradient, so that a step learns from what it did to those after it.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& previous = {}, const at::Tensor& lengths = {});

  void pretty_print(std::ostream& stream) const override;

 private:
  LocationSensitiveAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr};
  torch::nn::Conv1d location_convolution_{nullptr};
  torch::nn::Linear location_projection_{nullptr};
  at::Tensor score_weight_;  // [1,D]
};
TORCH_MODULE(LocationSensitiveAttention);

}  // namespace heed::nn
