// What the mechanisms share: heads, one or many, checks, and names for pretty_print.
#pragma once

#include <ATen/ops/arange.h>
#include <c10/util/Exception.h>
#include <torch/nn/modules/linear.h>

#include "heed/nn/attention_output.h"
#include "heed/ops/attention.h"

namespace heed::nn {

// [B,T,H*D] -> [B,H,T,D], a view: the engine reads strided rows where they are.
inline at::Tensor heads_of(const at::Tensor& x, int64_t heads) {
  TORCH_CHECK(x.dim() == 3 && x.size(2) % heads == 0, "[heads] expected [B,T,", heads,
              " * D], got ", x.sizes());
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

// [B,H,T,D] -> [B,T,H*D].
inline at::Tensor join_heads(const at::Tensor& x) { return x.transpose(1, 2).flatten(2); }

// query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv] -> output [B,T,H*Dv], weights [B,H,T,S].
inline AttentionOutput attend_heads(const at::Tensor& query, const at::Tensor& keys,
                                    const at::Tensor& values, int64_t heads,
                                    const AttentionOptions& options, Weights weights) {
  const at::Tensor q = heads_of(query, heads), k = heads_of(keys, heads);
  AttentionOutput result;
  result.output = join_heads(attention(q, k, heads_of(values, heads), options));
  if (weights == Weights::kReturn) result.weights = attention_weights(q, k, options);
  return result;
}

// query [B,T,D], keys [B,S,D], values [B,S,Dv] -> output [B,T,Dv], weights [B,T,S].
inline AttentionOutput attend_single_head(const at::Tensor& query, const at::Tensor& keys,
                                          const at::Tensor& values, const AttentionOptions& options,
                                          Weights weights) {
  const at::Tensor q = query.unsqueeze(1), k = keys.unsqueeze(1);
  AttentionOutput result;
  result.output = attention(q, k, values.unsqueeze(1), options).squeeze(1);
  if (weights == Weights::kReturn) result.weights = attention_weights(q, k, options).squeeze(1);
  return result;
}

inline torch::nn::Linear linear_without_bias(int64_t in, int64_t out) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
}

// lengths [B] int64 -> [B,S] bool, true where a key is padding.
inline at::Tensor keys_beyond(const at::Tensor& lengths, int64_t S) {
  return at::arange(S).ge(lengths.unsqueeze(1));
}

// values [B,S,Dv] with 0 where they are padding, which may hold anything: even that times a weight
// of 0 is not always 0. lengths may be undefined.
inline at::Tensor within(const at::Tensor& values, const at::Tensor& lengths) {
  if (!lengths.defined()) return values;
  return values.masked_fill(keys_beyond(lengths, values.size(1)).unsqueeze(-1), 0);
}

inline void check_heads(const char* module, int64_t heads) {
  TORCH_CHECK(heads > 0, "[", module, "] heads: expected at least 1, got ", heads);
}

inline void check_embed_size(const char* module, int64_t embed_size, int64_t heads) {
  TORCH_CHECK(heads > 0 && embed_size % heads == 0, "[", module,
              "] embed_size: expected a multiple of heads = ", heads, ", got ", embed_size);
}

// Before a projection, whose own message would speak of a matrix product.
inline void check_rows(const char* module, const char* argument, const at::Tensor& x,
                       const char* sizes, int64_t width) {
  TORCH_CHECK(x.dim() == 3 && x.size(2) == width, "[", module, "] ", argument, ": expected ", sizes,
              " = [*, *, ", width, "], got ", x.sizes());
}

inline const char* bool_name(bool value) { return value ? "true" : "false"; }

inline const char* corner_name(Causal causal) {
  return causal == Causal::kNone ? "none"
                                 : (causal == Causal::kTopLeft ? "top_left" : "bottom_right");
}

}  // namespace heed::nn
