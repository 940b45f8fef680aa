// Location-based attention (Luong 2015): weights = softmax(W q), from the query and the place
// alone.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LocationAttentionOptions {
  int64_t query_size;  // width of a query
  int64_t max_length;  // rows of W: the most places there can be
};

class LocationAttentionImpl : public torch::nn::Module {
 public:
  explicit LocationAttentionImpl(const LocationAttentionOptions& options);

  // Uniform in [-0.1, 0.1] (Luong 2015, section 4.1).
  void reset_parameters();

  // query [B,T,query_size], values [B,S,Dv] with S <= max_length, lengths [B] int64 or undefined.
  // Returns output [B,T,Dv], weights [B,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  LocationAttentionOptions options_;
  at::Tensor position_keys_;  // W [max_length,query_size]
};
TORCH_MODULE(LocationAttention);

}  // namespace heed::nn
