#include "heed/nn/multi_head_attention.h"

#include <c10/util/Exception.h>

#include "heed/ops/attention.h"

namespace heed::nn {
namespace {

// [B,T,H*D] -> [B,H,T,D], a view: the engine reads strided rows where they are.
at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads}).transpose(1, 2);
}

torch::nn::Linear linear(int64_t in, int64_t out, bool bias) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(bias));
}

MultiHeadAttentionOptions with_defaults(MultiHeadAttentionOptions options) {
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  if (options.key_size == 0) options.key_size = options.embed_size;
  if (options.value_size == 0) options.value_size = options.embed_size;
  TORCH_CHECK(options.heads > 0 && options.embed_size % options.heads == 0,
              "[MultiHeadAttention] embed_size: expected a multiple of heads = ", options.heads,
              ", got ", options.embed_size);
  TORCH_CHECK(options.kv_heads > 0 && options.heads % options.kv_heads == 0,
              "[MultiHeadAttention] kv_heads: expected a divisor of heads = ", options.heads,
              ", got ", options.kv_heads);
  return options;
}

}  // namespace

MultiHeadAttentionImpl::MultiHeadAttentionImpl(const MultiHeadAttentionOptions& options)
    : options_(with_defaults(options)) {
  const int64_t E = options_.embed_size;
  const int64_t kv_width = E / options_.heads * options_.kv_heads;
  query_projection_ = register_module("query_projection", linear(E, E, options_.bias));
  key_projection_ =
      register_module("key_projection", linear(options_.key_size, kv_width, options_.bias));
  value_projection_ =
      register_module("value_projection", linear(options_.value_size, kv_width, options_.bias));
  output_projection_ = register_module("output_projection", linear(E, E, options_.bias));
}

AttentionOutput MultiHeadAttentionImpl::forward(const at::Tensor& query, const at::Tensor& key,
                                                const at::Tensor& value, const at::Tensor& lengths,
                                                Causal causal, Weights weights) {
  const at::Tensor q = split_heads(query_projection_(query), options_.heads);     // [B,H,T,D]
  const at::Tensor k = split_heads(key_projection_(key), options_.kv_heads);      // [B,Hkv,S,D]
  const at::Tensor v = split_heads(value_projection_(value), options_.kv_heads);  // [B,Hkv,S,D]
  const AttentionOptions options{.causal = causal, .kv_lengths = lengths};
  AttentionOutput result;
  const at::Tensor mixed = attention(q, k, v, options);                  // [B,H,T,D]
  result.output = output_projection_(mixed.transpose(1, 2).flatten(2));  // [B,T,E]
  if (weights == Weights::kReturn) result.weights = attention_weights(q, k, options);
  return result;
}

}  // namespace heed::nn
