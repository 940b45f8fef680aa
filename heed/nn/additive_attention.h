// Additive (MLP) attention (Bahdanau 2015): score = v . tanh(W q + U k).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <ostream>

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

  // W and U from N(0, 0.001^2), v and the bias 0 (Bahdanau 2015, appendix B.1).
  void reset_parameters();

  // memory [B,S,key_size] -> keys [B,S,D] = U memory: once for all queries.
  at::Tensor keys(const at::Tensor& memory);

  // query [B,T,query_size], keys as above, values [B,S,Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,Dv], weights [B,T,S]. Nothing of size B x T x S x D is stored.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  AdditiveAttentionOptions options_;
  torch::nn::Linear query_projection_, key_projection_;
  at::Tensor score_weight_;  // [1,D]
};
TORCH_MODULE(AdditiveAttention);

// The scores v . tanh(query + keys[s]) of one query, [B,1,D] and [B,S,D] -> [B,S], for steps whose
// scores need a gradient; keys from lengths [B] int64 on, where defined, get -inf.
at::Tensor additive_scores(const at::Tensor& query, const at::Tensor& keys,
                           const at::Tensor& score_weight, const at::Tensor& lengths);

// [B,S] -> [B,S]; keys from lengths on, whose score is -inf, get 0 where there are no others.
at::Tensor softmax_of_scores(const at::Tensor& scores, const at::Tensor& lengths);

}  // namespace heed::nn
