#include "heed/nn/transformer_decoder.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "heed/nn/checkpoint.h"

namespace heed::nn {

void TransformerDecoderLayerCache::select(const at::Tensor& elements) {
  self_attention.select(elements);
  if (cross_attention) cross_attention->select(elements);
}

void TransformerDecoderLayerCache::reset() {
  self_attention.reset();
  cross_attention.reset();
}

at::Tensor TransformerDecoderCache::lengths() const {
  return layers.front().self_attention.lengths();
}

void TransformerDecoderCache::select(const at::Tensor& elements) {
  for (TransformerDecoderLayerCache& layer : layers) layer.select(elements);
}

void TransformerDecoderCache::reset() {
  for (TransformerDecoderLayerCache& layer : layers) layer.reset();
}

TransformerDecoderLayerImpl::TransformerDecoderLayerImpl(const TransformerLayerOptions& options)
    : TransformerLayerImpl("TransformerDecoderLayer", options) {
  if (options.cross_attention) {
    cross_attention_ = register_module(
        "cross_attention",
        MultiHeadAttention(MultiHeadAttentionOptions{.embed_size = options.embed_size,
                                                     .heads = options.heads,
                                                     .kv_heads = options.kv_heads,
                                                     .key_size = options.memory_size,
                                                     .value_size = options.memory_size,
                                                     .bias = options.bias,
                                                     .head_size = options.head_size,
                                                     .scale = options.scale,
                                                     .dropout = options.attention_dropout,
                                                     .batch_first = options.batch_first}));
    cross_attention_norm_ = make_norm("cross_attention_norm");
  }
  reset_parameters();
}

TransformerDecoderLayerOutput TransformerDecoderLayerImpl::forward(const at::Tensor& x,
                                                                   const at::Tensor& memory,
                                                                   const at::Tensor& lengths,
                                                                   const at::Tensor& memory_lengths,
                                                                   Weights weights) {
  return attend(x, memory,
                {.lengths = lengths, .memory_lengths = memory_lengths, .weights = weights});
}

TransformerDecoderLayerOutput TransformerDecoderLayerImpl::attend(
    const at::Tensor& x, const at::Tensor& memory, const TransformerDecoderCall& call,
    TransformerDecoderLayerCache* cache) {
  const at::Tensor rows = before(self_attention_norm_, x);  // [B,T,E]
  const AttentionOutput own =
      self_attention_->attend(rows, rows, rows,
                              {.lengths = call.lengths,
                               .causal = call.causal,
                               .window = call.window,
                               .key_padding = call.key_padding,
                               .head_mask = call.head_mask,
                               .score_mod = call.score_mod,
                               .mask = call.mask,
                               .cache = cache == nullptr ? nullptr : &cache->self_attention,
                               .weights = call.weights});
  TransformerDecoderLayerOutput result{.self_weights = own.weights};
  at::Tensor y = after(self_attention_norm_, x, own.output);
  if (cross_attention_) {
    const AttentionOutput of_memory =
        attend_memory(before(cross_attention_norm_, y), memory, call, cache);
    y = after(cross_attention_norm_, y, of_memory.output);
    result.cross_weights = of_memory.weights;
  }
  result.output = feed_forward_step(y);
  return result;
}

AttentionOutput TransformerDecoderLayerImpl::attend_memory(const at::Tensor& rows,
                                                           const at::Tensor& memory,
                                                           const TransformerDecoderCall& call,
                                                           TransformerDecoderLayerCache* cache) {
  MultiHeadAttentionCall of_memory{.key_padding = call.memory_key_padding, .weights = call.weights};
  const bool held = cache != nullptr && cache->cross_attention;
  TORCH_CHECK(held || memory.defined(),
              "[TransformerDecoderLayer] memory: expected [B,S,memory_size], as no cache holds it "
              "yet, got none");
  if (!held) of_memory.lengths = call.memory_lengths;
  if (cache != nullptr) {
    if (!held) {
      const int64_t B = memory.size(options_.batch_first ? 0 : 1);
      const int64_t S = memory.size(options_.batch_first ? 1 : 0);
      cache->cross_attention = cross_attention_->make_cache(B, std::max<int64_t>(S, 1));
    }
    of_memory.cache = &*cache->cross_attention;
    of_memory.append = !held;
  }
  return cross_attention_->attend(rows, memory, memory, of_memory);
}

TransformerDecoderLayerCache TransformerDecoderLayerImpl::make_cache(int64_t batch,
                                                                     int64_t capacity,
                                                                     bool grow) const {
  return {.self_attention = self_attention_->make_cache(batch, capacity, grow)};
}

TransformerDecoderImpl::TransformerDecoderImpl(const TransformerStackOptions& options)
    : TransformerStackImpl("TransformerDecoder", options,
                           [](const TransformerLayerOptions& of_layer) {
                             return std::make_shared<TransformerDecoderLayerImpl>(of_layer);
                           }) {}

TransformerDecoderOutput TransformerDecoderImpl::forward(const at::Tensor& x,
                                                         const at::Tensor& memory,
                                                         const at::Tensor& lengths,
                                                         const at::Tensor& memory_lengths,
                                                         Weights weights) {
  return attend(x, memory,
                {.lengths = lengths, .memory_lengths = memory_lengths, .weights = weights});
}

TransformerDecoderOutput TransformerDecoderImpl::attend(const at::Tensor& x,
                                                        const at::Tensor& memory,
                                                        const TransformerDecoderCall& call,
                                                        TransformerDecoderCache* cache) {
  TransformerDecoderOutput result{.output = x};
  for (size_t i = 0; i < layers_->size(); ++i) {
    const auto layer = layers_->ptr<TransformerDecoderLayerImpl>(i);
    TransformerDecoderLayerCache* const of_layer = cache == nullptr ? nullptr : &cache->layers[i];
    const CheckpointFunction function = [layer, call,
                                         of_layer](const std::vector<at::Tensor>& inputs) {
      const auto output = layer->attend(inputs[0], inputs[1], call, of_layer);
      return std::vector<at::Tensor>{output.output, output.self_weights, output.cross_weights};
    };
    const std::vector<at::Tensor> inputs = {result.output, memory};
    const bool again = options_.checkpoint && cache == nullptr;
    const auto outputs = again ? checkpoint(function, inputs) : function(inputs);
    result.output = outputs[0];
    if (outputs[1].defined()) result.self_weights.push_back(outputs[1]);
    if (outputs[2].defined()) result.cross_weights.push_back(outputs[2]);
  }
  result.output = normed(result.output);
  return result;
}

TransformerDecoderCache TransformerDecoderImpl::make_cache(int64_t batch, int64_t capacity,
                                                           bool grow) const {
  TransformerDecoderCache cache;
  for (size_t i = 0; i < layers_->size(); ++i) {
    cache.layers.push_back(
        layers_->at<TransformerDecoderLayerImpl>(i).make_cache(batch, capacity, grow));
  }
  return cache;
}

}  // namespace heed::nn
