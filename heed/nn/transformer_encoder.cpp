#include "heed/nn/transformer_encoder.h"

#include <c10/util/Exception.h>

#include "heed/nn/checkpoint.h"

namespace heed::nn {

TransformerEncoderLayerImpl::TransformerEncoderLayerImpl(const TransformerLayerOptions& options)
    : TransformerLayerImpl("TransformerEncoderLayer", options) {
  reset_parameters();
}

AttentionOutput TransformerEncoderLayerImpl::forward(const at::Tensor& x, const at::Tensor& lengths,
                                                     Weights weights) {
  return attend(x, {.lengths = lengths, .weights = weights});
}

AttentionOutput TransformerEncoderLayerImpl::attend(const at::Tensor& x,
                                                    const MultiHeadAttentionCall& call) {
  TORCH_CHECK(call.cache == nullptr,
              "[TransformerEncoderLayer] cache: expected none, as a TransformerDecoder takes one");
  const at::Tensor rows = before(self_attention_norm_, x);  // [B,T,E]
  AttentionOutput result = self_attention_->attend(rows, rows, rows, call);
  result.output = feed_forward_step(after(self_attention_norm_, x, result.output));
  return result;
}

TransformerEncoderImpl::TransformerEncoderImpl(const TransformerStackOptions& options)
    : TransformerStackImpl("TransformerEncoder", options,
                           [](const TransformerLayerOptions& of_layer) {
                             return std::make_shared<TransformerEncoderLayerImpl>(of_layer);
                           }) {}

TransformerEncoderOutput TransformerEncoderImpl::forward(const at::Tensor& x,
                                                         const at::Tensor& lengths,
                                                         Weights weights) {
  return attend(x, {.lengths = lengths, .weights = weights});
}

TransformerEncoderOutput TransformerEncoderImpl::attend(const at::Tensor& x,
                                                        const MultiHeadAttentionCall& call) {
  TransformerEncoderOutput result{.output = x};
  for (const std::shared_ptr<torch::nn::Module>& module : *layers_) {
    const auto layer = std::dynamic_pointer_cast<TransformerEncoderLayerImpl>(module);
    const CheckpointFunction function = [layer, call](const std::vector<at::Tensor>& inputs) {
      const AttentionOutput output = layer->attend(inputs[0], call);
      return std::vector<at::Tensor>{output.output, output.weights};
    };
    const std::vector<at::Tensor> inputs = {result.output};
    const auto outputs = options_.checkpoint ? checkpoint(function, inputs) : function(inputs);
    result.output = outputs[0];
    if (call.weights == Weights::kReturn) result.weights.push_back(outputs[1]);
  }
  result.output = normed(result.output);
  return result;
}

}  // namespace heed::nn
