// The Transformer's encoder (Vaswani 2017): y = step(x, self_attention),
// output = step(y, feed_forward), `layers` times.
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/transformer_layer.h"

namespace heed::nn {

class TransformerEncoderLayerImpl : public TransformerLayerImpl {
 public:
  explicit TransformerEncoderLayerImpl(const TransformerLayerOptions& options);

  // x [B,T,E], lengths [B] int64 or undefined. Returns output [B,T,E], weights [B,H,T,T].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

  // The same with all that a call may add to self-attention, but for a cache.
  AttentionOutput attend(const at::Tensor& x, const MultiHeadAttentionCall& call);
};
TORCH_MODULE(TransformerEncoderLayer);

struct TransformerEncoderOutput {
  at::Tensor output;                // [B,T,E]
  std::vector<at::Tensor> weights;  // of each layer, [B,H,T,T]; empty unless asked for
};

class TransformerEncoderImpl : public TransformerStackImpl {
 public:
  explicit TransformerEncoderImpl(const TransformerStackOptions& options);

  TransformerEncoderOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                                   Weights weights = Weights::kNone);
  TransformerEncoderOutput attend(const at::Tensor& x, const MultiHeadAttentionCall& call);
};
TORCH_MODULE(TransformerEncoder);

}  // namespace heed::nn
