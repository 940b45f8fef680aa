// One head of attention over [B,T,D] tensors: the step that the single-head modules share.
#pragma once

#include "heed/nn/attention_output.h"
#include "heed/ops/attention.h"

namespace heed::nn {

// query [B,T,D], keys [B,S,D], values [B,S,Dv] -> output [B,T,Dv], weights [B,T,S].
inline AttentionOutput attend_single_head(const at::Tensor& query, const at::Tensor& keys,
                                          const at::Tensor& values, const AttentionOptions& options,
                                          Weights weights) {
  const at::Tensor q = query.unsqueeze(1), k = keys.unsqueeze(1);  // [B,1,T,D], [B,1,S,D]
  AttentionOutput result;
  result.output = attention(q, k, values.unsqueeze(1), options).squeeze(1);
  if (weights == Weights::kReturn) result.weights = attention_weights(q, k, options).squeeze(1);
  return result;
}

}  // namespace heed::nn
