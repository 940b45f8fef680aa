// Linear attention (Katharopoulos 2020): weights[t,s] ~ <phi(q[t]), phi(k[s])>, phi(x) = elu(x)
// + 1.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/core/linear_attention.h"
#include "heed/nn/attention_output.h"

namespace heed::nn {

struct LinearAttentionOptions {
  int64_t heads = 1;    // H
  bool causal = false;  // keys s <= t only
  FeatureMap feature_map = FeatureMap::kElu;
};

class LinearAttentionImpl : public torch::nn::Module {
 public:
  explicit LinearAttentionImpl(const LinearAttentionOptions& options = {});

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  LinearAttentionOptions options_;
};
TORCH_MODULE(LinearAttention);

// q [B,H,T,D], k [B,H,S,D], v [B,H,S,Dv] -> [B,T,H*Dv], keys from lengths [B] on left out.
at::Tensor mix_by_features(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& lengths, bool causal, FeatureMap feature_map);

// Features q [B,H,T,D], k [B,H,S,D] -> weights [B,H,T,S]: the softmax of log <q, k>. No gradient.
at::Tensor weights_of_features(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lengths,
                               bool causal);

// The same of exponents, that is of features exp(q) and exp(k), which may be beyond any number.
at::Tensor weights_of_powers(const at::Tensor& q, const at::Tensor& k, const at::Tensor& lengths,
                             bool causal);

}  // namespace heed::nn
