// General (bilinear) attention (Luong 2015): score = q W k.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct GeneralAttentionOptions {
  int64_t query_size;  // width of a query
  int64_t key_size;    // width of a row of memory
};

class GeneralAttentionImpl : public torch::nn::Module {
 public:
  explicit GeneralAttentionImpl(const GeneralAttentionOptions& options);

  // Uniform in [-0.1, 0.1] (Luong 2015, section 4.1).
  void reset_parameters();

  // memory [B,S,key_size] -> keys [B,S,query_size] = memory W^T: once for all queries.
  at::Tensor keys(const at::Tensor& memory);

  // query [B,T,query_size], keys as above, values [B,S,Dv], lengths [B] int64 or undefined.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  GeneralAttentionOptions options_;
  torch::nn::Linear key_projection_;
};
TORCH_MODULE(GeneralAttention);

}  // namespace heed::nn
