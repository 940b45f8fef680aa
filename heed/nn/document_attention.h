// Attention within documents packed into one row (Krell 2021): <q, k> / sqrt(D) where
// document[t] == document[s].
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/core/attention.h"
#include "heed/nn/attention_output.h"

namespace heed::nn {

struct DocumentAttentionOptions {
  int64_t heads = 1;              // H
  Causal causal = Causal::kNone;  // in addition
  double dropout = 0;             // of weights, while training
};

// Where each row belongs: int64 below 2^24.
struct Documents {
  at::Tensor of_queries;    // [B,T]
  at::Tensor of_keys = {};  // [B,S]; undefined: those of the queries
};

class DocumentAttentionImpl : public torch::nn::Module {
 public:
  explicit DocumentAttentionImpl(const DocumentAttentionOptions& options = {});

  // query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths [B] int64 or undefined.
  // Returns output [B,T,H*Dv], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const Documents& documents, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  DocumentAttentionOptions options_;
};
TORCH_MODULE(DocumentAttention);

}  // namespace heed::nn
