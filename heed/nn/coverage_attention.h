// Coverage (See 2017): score[t,s] = v . tanh(W q[t] + U k[s] + w c[t,s]) with what has been looked
// at already, c[t,s] = sum_{t' < t} weights[t',s]. Each step needs the weights of those before it,
// so a call goes through its T queries one by one.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

namespace heed::nn {

struct CoverageAttentionOptions {
  int64_t query_size;  // width of a query
  int64_t key_size;    // width of a row of memory
  int64_t size;        // D, the width of the hidden layer
};

struct CoverageOutput {
  at::Tensor output;    // [B,T,Dv]
  at::Tensor weights;   // [B,T,S], with a gradient: the next step's score depends on them
  at::Tensor coverage;  // [B,S], the sum of all weights so far, for the next call
  at::Tensor loss;      // [B,T], sum_s min(weights[t,s], c[t,s]): of looking twice
};

class CoverageAttentionImpl : public torch::nn::Module {
 public:
  explicit CoverageAttentionImpl(const CoverageAttentionOptions& options);

  // Uniform in [-0.02, 0.02], biases 0, as the paper's program.
  void reset_parameters();

  // memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries.
  at::Tensor keys(const at::Tensor& memory);

  // query [B,T,query_size], keys as above, values [B,S,Dv], lengths [B] int64 or undefined,
  // coverage [B,S] of the steps before, undefined: 0.
  CoverageOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                         const at::Tensor& lengths = {}, const at::Tensor& coverage = {});

  void pretty_print(std::ostream& stream) const override;

 private:
  CoverageAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr};
  at::Tensor coverage_weight_;  // [D]
  at::Tensor score_weight_;     // [1,D]
};
TORCH_MODULE(CoverageAttention);

}  // namespace heed::nn
