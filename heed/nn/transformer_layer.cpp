#include "heed/nn/transformer_layer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/dropout.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <string>

namespace heed::nn {

TransformerLayerImpl::TransformerLayerImpl(const char* name, const TransformerLayerOptions& options)
    : torch::nn::Module(std::string("heed::nn::") + name), options_(options) {
  TORCH_CHECK(0 <= options.dropout && options.dropout < 1, "[", name,
              "] dropout: expected in [0, 1), got ", options.dropout);
  self_attention_ = register_module("self_attention", MultiHeadAttention(MultiHeadAttentionOptions{
                                                          .embed_size = options.embed_size,
                                                          .heads = options.heads,
                                                          .kv_heads = options.kv_heads,
                                                          .bias = options.bias,
                                                          .head_size = options.head_size,
                                                          .scale = options.scale,
                                                          .dropout = options.attention_dropout,
                                                          .batch_first = options.batch_first,
                                                          .positions = options.positions}));
  feed_forward_ = register_module(
      "feed_forward", FeedForward(FeedForwardOptions{.embed_size = options.embed_size,
                                                     .hidden_size = options.hidden_size,
                                                     .activation = options.activation,
                                                     .bias = options.bias,
                                                     .dropout = options.hidden_dropout}));
  self_attention_norm_ = make_norm("self_attention_norm");
  feed_forward_norm_ = make_norm("feed_forward_norm");
}

void TransformerLayerImpl::reset_parameters() {
  for (const std::shared_ptr<torch::nn::Module>& child : children()) {
    if (auto* attention = child->as<MultiHeadAttention>()) attention->reset_parameters();
    if (auto* feed_forward = child->as<FeedForward>()) feed_forward->reset_parameters();
    if (auto* norm = child->as<Norm>()) norm->reset_parameters();
    if (options_.initialization != Initialization::kGpt2) continue;
    for (const std::shared_ptr<torch::nn::Module>& part : child->children()) {
      const auto* projection = part->as<torch::nn::Linear>();
      if (projection != nullptr) torch::nn::init::normal_(projection->weight, 0, 0.02);
    }
  }
}

std::vector<at::Tensor> TransformerLayerImpl::residual_weights() const {
  std::vector<at::Tensor> weights;
  for (const auto& [name, parameter] : named_parameters().pairs()) {
    if (name.ends_with("output_projection.weight")) weights.push_back(parameter);
  }
  return weights;
}

void TransformerLayerImpl::disown_positions() { self_attention_->unregister_module("positions"); }

void TransformerLayerImpl::pretty_print(std::ostream& stream) const {
  stream << name() << "(embed_size=" << options_.embed_size << ", heads=" << options_.heads
         << ", norm_first=" << std::boolalpha << options_.norm_first
         << ", dropout=" << options_.dropout << ")";
}

Norm TransformerLayerImpl::make_norm(const char* name) {
  return register_module(name, Norm(NormOptions{.size = options_.embed_size,
                                                .kind = options_.norm,
                                                .eps = options_.norm_eps,
                                                .bias = options_.bias}));
}

at::Tensor TransformerLayerImpl::before(Norm& norm, const at::Tensor& x) const {
  return options_.norm_first ? norm(x) : x;
}

at::Tensor TransformerLayerImpl::after(Norm& norm, const at::Tensor& x,
                                       const at::Tensor& change) const {
  const at::Tensor sum =
      x + (options_.dropout > 0 ? at::dropout(change, options_.dropout, is_training()) : change);
  return options_.norm_first ? sum : norm(sum);
}

at::Tensor TransformerLayerImpl::feed_forward_step(const at::Tensor& x) {
  return after(feed_forward_norm_, x, feed_forward_(before(feed_forward_norm_, x)));
}

TransformerStackImpl::TransformerStackImpl(const char* name, const TransformerStackOptions& options,
                                           const MakeLayer& make_layer)
    : torch::nn::Module(std::string("heed::nn::") + name), options_(options) {
  TORCH_CHECK(options.layers > 0, "[", name, "] layers: expected at least 1, got ", options.layers);
  TORCH_CHECK(!options.layer.positions || !options.make_positions, "[", name,
              "] positions: expected one module for all layers or make_positions, got both");
  layers_ = register_module("layers", torch::nn::ModuleList());
  TransformerLayerOptions of_layer = options.layer;
  for (int64_t i = 0; i < options.layers; ++i) {
    if (options.make_positions) of_layer.positions = options.make_positions();
    const std::shared_ptr<TransformerLayerImpl> layer = make_layer(of_layer);
    if (options.layer.positions) layer->disown_positions();
    layers_->push_back(layer);
  }
  if (options.layer.positions) register_module("positions", options.layer.positions);
  if (options.final_norm.value_or(options.layer.norm_first)) {
    norm_ = register_module("norm", Norm(NormOptions{.size = options.layer.embed_size,
                                                     .kind = options.layer.norm,
                                                     .eps = options.layer.norm_eps,
                                                     .bias = options.layer.bias}));
  }
  scale_residuals();
}

void TransformerStackImpl::reset_parameters() {
  for (const std::shared_ptr<torch::nn::Module>& layer : *layers_) {
    std::dynamic_pointer_cast<TransformerLayerImpl>(layer)->reset_parameters();
  }
  if (norm_) norm_->reset_parameters();
  scale_residuals();
}

void TransformerStackImpl::pretty_print(std::ostream& stream) const {
  stream << name() << "(layers=" << options_.layers << ", checkpoint=" << std::boolalpha
         << options_.checkpoint << ")";
}

void TransformerStackImpl::scale_residuals() {
  if (options_.layer.initialization != Initialization::kGpt2) return;
  std::vector<at::Tensor> weights;
  for (const std::shared_ptr<torch::nn::Module>& layer : *layers_) {
    const auto of_layer =
        std::dynamic_pointer_cast<TransformerLayerImpl>(layer)->residual_weights();
    weights.insert(weights.end(), of_layer.begin(), of_layer.end());
  }
  const at::NoGradGuard no_grad;
  for (at::Tensor& weight : weights) weight.div_(std::sqrt(static_cast<double>(weights.size())));
}

}  // namespace heed::nn
