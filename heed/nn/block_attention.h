// Attention among blocks (BigBird, Zaheer 2020): block i of the query sees block j of the key where
//
//   |i - j| <= neighbours  or  i < global_blocks  or  j < global_blocks  or  j in drawn[h, i]
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/core/attention.h"
#include "heed/nn/attention_output.h"

namespace heed::nn {

struct BlockAttentionOptions {
  int64_t block_size;             // tokens of a block
  int64_t heads = 1;              // H
  int64_t neighbours = 1;         // blocks seen on either side
  int64_t global_blocks = 0;      // the first ones, which see all and are seen by all
  int64_t random_blocks = 0;      // drawn for each block of queries and head
  uint64_t seed = 0;              // which: a function of it, H and the number of blocks
  Causal causal = Causal::kNone;  // in addition; queries' places count from its corner
  double dropout = 0;             // of weights, while training
};

class BlockAttentionImpl : public torch::nn::Module {
 public:
  explicit BlockAttentionImpl(const BlockAttentionOptions& options);

  // Blocks of keys that each block of queries sees besides (perhaps one that it sees already):
  // int64 [H,blocks of queries' places,random_blocks].
  at::Tensor drawn(int64_t T, int64_t S) const;

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  BlockAttentionOptions options_;
};
TORCH_MODULE(BlockAttention);

}  // namespace heed::nn
