// What the layers of encoders and decoders share: their options and their residual steps,
//
//   norm_first:  x + dropout(f(norm(x)))   (Xiong 2020, "pre-norm")
//   otherwise:   norm(x + dropout(f(x)))   (Vaswani 2017, "post-norm")
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <vector>

#include "heed/nn/feed_forward.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/norm.h"

namespace heed::nn {

enum class Initialization {
  kGlorot,  // uniform, biases 0 (Vaswani 2017)
  kGpt2,    // normal with deviation 0.02, biases 0 (Radford 2019)
};

struct TransformerLayerOptions {
  int64_t embed_size;       // E
  int64_t heads;            // H
  int64_t kv_heads = 0;     // Hkv, divides H; 0 means H
  int64_t head_size = 0;    // D; 0 means E / H
  int64_t hidden_size = 0;  // F of the feed-forward network; 0 means 4 E
  Activation activation = Activation::kRelu;
  NormKind norm = NormKind::kLayer;
  bool norm_first = false;
  double norm_eps = 1e-5;
  bool bias = true;                            // of projections and layer norms
  std::optional<double> scale = std::nullopt;  // of queries by keys; none: 1 / sqrt(D)
  // Probabilities with which are dropped, while training:
  double dropout = 0;            // elements of a step's function
  double attention_dropout = 0;  // attention weights
  double hidden_dropout = 0;     // hidden units of the feed-forward network
  bool batch_first = true;       // [B,T,E]; false: [T,B,E]
  std::shared_ptr<AttentionPositionsImpl> positions = nullptr;  // of self-attention
  Initialization initialization = Initialization::kGlorot;
  bool cross_attention = true;  // of a decoder's layer: the step that looks at a memory
  int64_t memory_size = 0;      // width of the memory's rows; 0 means E
};

class TransformerLayerImpl : public torch::nn::Module {
 public:
  // As options.initialization says; norms 1 and 0; positions keep theirs.
  void reset_parameters();

  // The weight of each residual step's last projection.
  std::vector<at::Tensor> residual_weights() const;

  // Its positions are still read, but another module registers them.
  void disown_positions();

  void pretty_print(std::ostream& stream) const override;

 protected:
  TransformerLayerImpl(const char* name, const TransformerLayerOptions& options);

  Norm make_norm(const char* name);
  at::Tensor before(Norm& norm, const at::Tensor& x) const;  // what a step's function is given
  at::Tensor after(Norm& norm, const at::Tensor& x, const at::Tensor& change) const;
  at::Tensor feed_forward_step(const at::Tensor& x);

  TransformerLayerOptions options_;
  MultiHeadAttention self_attention_{nullptr};
  FeedForward feed_forward_{nullptr};
  Norm self_attention_norm_{nullptr}, feed_forward_norm_{nullptr};
};

struct TransformerStackOptions {
  int64_t layers;                 // L
  TransformerLayerOptions layer;  // of each; its positions are shared by all
  // Gives each layer positions of its own.
  std::function<std::shared_ptr<AttentionPositionsImpl>()> make_positions = nullptr;
  std::optional<bool> final_norm = std::nullopt;  // after the last layer; none: where norm_first
  // Layers keep nothing for the backward pass but their inputs and compute the rest again. Not
  // where a cache is given.
  bool checkpoint = false;
};

class TransformerStackImpl : public torch::nn::Module {
 public:
  // Each layer's. With kGpt2 the last projection of each of the N residual steps is divided by
  // sqrt(N), so that their sum starts as large as one.
  void reset_parameters();

  void pretty_print(std::ostream& stream) const override;

 protected:
  using MakeLayer =
      std::function<std::shared_ptr<TransformerLayerImpl>(const TransformerLayerOptions&)>;

  TransformerStackImpl(const char* name, const TransformerStackOptions& options,
                       const MakeLayer& make_layer);

  at::Tensor normed(const at::Tensor& x) { return norm_ ? norm_(x) : x; }

  TransformerStackOptions options_;
  torch::nn::ModuleList layers_{nullptr};
  Norm norm_{nullptr};

 private:
  void scale_residuals();
};

}  // namespace heed::nn
