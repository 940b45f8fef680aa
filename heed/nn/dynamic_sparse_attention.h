// Sparsity by content (Reformer, Kitaev 2020): a query sees the keys that fall into its bucket in
// any of several rounds of locality-sensitive hashing, bucket_r(x) = argmax([x R_r; -x R_r]).
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct DynamicSparseAttentionOptions {
  int64_t head_size;     // D, of a query and a key within a head
  int64_t buckets = 16;  // even
  int64_t rounds = 2;    // hashes
  int64_t heads = 1;     // H
  bool causal = false;   // keys s <= t only
  double dropout = 0;    // of weights, while training
};

class DynamicSparseAttentionImpl : public torch::nn::Module {
 public:
  explicit DynamicSparseAttentionImpl(const DynamicSparseAttentionOptions& options);

  // Draws the rotations anew; a model may do so between steps.
  void reset_parameters();

  // x [B,H,T,D] -> int64 [B,rounds,H,T].
  at::Tensor buckets_of(const at::Tensor& x) const;

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S]. Reformer passes one tensor for query and keys;
  // with two, a query that meets no key gets 0.
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  DynamicSparseAttentionOptions options_;
  at::Tensor rotations_;  // [rounds,H,D,buckets / 2]
};
TORCH_MODULE(DynamicSparseAttention);

}  // namespace heed::nn
