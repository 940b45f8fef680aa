// Longformer's self-attention (Beltagy 2020): a window and a few global tokens.
//
//   local tokens t:  keys where |t - s| <= window or is_global[s]
//   global tokens t: all keys, by projections of their own for query, key and value
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LongformerAttentionOptions {
  int64_t embed_size;  // E, a multiple of heads
  int64_t heads;       // H
  int64_t window;      // keys seen on either side
  double dropout = 0;  // of weights, while training
};

class LongformerAttentionImpl : public torch::nn::Module {
 public:
  explicit LongformerAttentionImpl(const LongformerAttentionOptions& options);

  // Matrices from N(0, 0.02^2), biases 0, as the RoBERTa that Longformer starts from.
  void reset_parameters();

  // x [B,T,E], is_global [B,T] bool (undefined: no token is), lengths [B] int64 or undefined.
  // Returns output [B,T,E], weights [B,H,T,T].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& is_global = {},
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  LongformerAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      value_projection_{nullptr};
  torch::nn::Linear global_query_projection_{nullptr}, global_key_projection_{nullptr},
      global_value_projection_{nullptr};
  torch::nn::Linear output_projection_{nullptr};
};
TORCH_MODULE(LongformerAttention);

}  // namespace heed::nn
