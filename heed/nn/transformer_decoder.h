// The Transformer's decoder (Vaswani 2017): y = step(x, self_attention),
// z = step(y, cross_attention), output = step(z, feed_forward), `layers` times; without
// cross-attention a language model's (Radford 2018).
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/transformer_layer.h"

namespace heed::nn {

// Keys and values of one layer: of the rows so far and, once it was read, of the memory.
struct TransformerDecoderLayerCache {
  KeyValueCache self_attention;
  std::optional<KeyValueCache> cross_attention = std::nullopt;

  void select(const at::Tensor& elements);
  void reset();
};

struct TransformerDecoderCache {
  std::vector<TransformerDecoderLayerCache> layers;

  at::Tensor lengths() const;  // [B] int64, the rows of each element so far: places of the next

  // Element i becomes what element elements[i] was ([B'] int64): the step of a beam search.
  void select(const at::Tensor& elements);

  // Forgets rows and memory.
  void reset();
};

// What one call may add.
struct TransformerDecoderCall {
  at::Tensor lengths = {};         // [B] int64, rows of x that count
  at::Tensor memory_lengths = {};  // [B] int64, rows of memory that count
  // Of self-attention, as in MultiHeadAttentionCall.
  Causal causal = Causal::kTopLeft;
  Window window = {};
  at::Tensor key_padding = {};  // [B,T] bool
  at::Tensor head_mask = {};    // [H] or [B,H]
  std::function<program::Expression(const program::Expression&)> score_mod = nullptr;
  std::optional<program::Expression> mask = std::nullopt;
  at::Tensor memory_key_padding = {};  // [B,S] bool, true where a row of memory is padding
  Weights weights = Weights::kNone;
};

struct TransformerDecoderLayerOutput {
  at::Tensor output;         // [B,T,E]
  at::Tensor self_weights;   // [B,H,T,T], with a cache all its rows; undefined unless asked for
  at::Tensor cross_weights;  // [B,H,T,S]
};

class TransformerDecoderLayerImpl : public TransformerLayerImpl {
 public:
  explicit TransformerDecoderLayerImpl(const TransformerLayerOptions& options);

  // x [B,T,E], memory [B,S,memory_size], lengths and memory_lengths [B] int64 or undefined.
  TransformerDecoderLayerOutput forward(const at::Tensor& x, const at::Tensor& memory = {},
                                        const at::Tensor& lengths = {},
                                        const at::Tensor& memory_lengths = {},
                                        Weights weights = Weights::kNone);

  // The same with all that a call may add. With a cache the rows of x follow those that it holds,
  // and join them; memory may be undefined once it holds it.
  TransformerDecoderLayerOutput attend(const at::Tensor& x, const at::Tensor& memory,
                                       const TransformerDecoderCall& call,
                                       TransformerDecoderLayerCache* cache = nullptr);

  // For `capacity` rows of each of `batch` elements; the memory is kept when it is read.
  TransformerDecoderLayerCache make_cache(int64_t batch, int64_t capacity, bool grow = false) const;

 private:
  AttentionOutput attend_memory(const at::Tensor& rows, const at::Tensor& memory,
                                const TransformerDecoderCall& call,
                                TransformerDecoderLayerCache* cache);

  MultiHeadAttention cross_attention_{nullptr};
  Norm cross_attention_norm_{nullptr};
};
TORCH_MODULE(TransformerDecoderLayer);

struct TransformerDecoderOutput {
  at::Tensor output;  // [B,T,E]
  // Of each layer; empty unless asked for.
  std::vector<at::Tensor> self_weights, cross_weights;
};

class TransformerDecoderImpl : public TransformerStackImpl {
 public:
  explicit TransformerDecoderImpl(const TransformerStackOptions& options);

  TransformerDecoderOutput forward(const at::Tensor& x, const at::Tensor& memory = {},
                                   const at::Tensor& lengths = {},
                                   const at::Tensor& memory_lengths = {},
                                   Weights weights = Weights::kNone);
  TransformerDecoderOutput attend(const at::Tensor& x, const at::Tensor& memory,
                                  const TransformerDecoderCall& call,
                                  TransformerDecoderCache* cache = nullptr);
  TransformerDecoderCache make_cache(int64_t batch, int64_t capacity, bool grow = false) const;
};
TORCH_MODULE(TransformerDecoder);

}  // namespace heed::nn
