// The Transformer's blocks against their formulas, their caches, and gradient checkpointing.
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <limits>
#include <set>

#include "heed/nn/checkpoint.h"
#include "heed/nn/learned_positions.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/token_embedding.h"
#include "heed/nn/transformer_decoder.h"
#include "heed/nn/transformer_encoder.h"
#include "tests/nn/testing.h"

namespace heed::nn {
namespace {

constexpr int64_t B = 2, T = 5, S = 7, E = 12, H = 4;

at::Tensor leaf(at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); }

// The formulas, on matrices [B,H,T,S], with the parameters of a module by their names.
class Formula {
 public:
  Formula(const torch::nn::Module& module, TransformerLayerOptions options)
      : parameters_(module.named_parameters()), options_(options) {}

  at::Tensor linear(const std::string& name, const at::Tensor& x) const {
    const at::Tensor product = at::matmul(x, parameters_[name + ".weight"].t());
    const at::Tensor* bias = parameters_.find(name + ".bias");
    return bias == nullptr ? product : product + *bias;
  }

  at::Tensor norm(const std::string& name, const at::Tensor& x) const {
    const bool rms = options_.norm == NormKind::kRms;
    const at::Tensor centred = rms ? x : x - x.mean(-1, true);
    const at::Tensor unit = centred / (centred.square().mean(-1, true) + options_.norm_eps).sqrt();
    const at::Tensor* bias = parameters_.find(name + ".bias");
    const at::Tensor y = unit * parameters_[name + ".weight"];
    return bias == nullptr ? y : y + *bias;
  }

  at::Tensor feed_forward(const std::string& name, const at::Tensor& x) const {
    const at::Tensor u = linear(name + ".hidden_projection", x);
    at::Tensor hidden;
    switch (options_.activation) {
      case Activation::kRelu:
        hidden = u.clamp_min(0);
        break;
      case Activation::kGelu:
        hidden = u * (1 + at::erf(u / std::sqrt(2.0))) / 2;
        break;
      case Activation::kGeluTanh:
        hidden = u * (1 + at::tanh(std::sqrt(2 / M_PI) * (u + 0.044715 * u.pow(3)))) / 2;
        break;
      case Activation::kSwiglu:
        const at::Tensor gate = linear(name + ".gate_projection", x);
        hidden = gate * at::sigmoid(gate) * u;
    }
    return linear(name + ".output_projection", hidden);
  }

  AttentionOutput attention(const std::string& name, const at::Tensor& x, const at::Tensor& memory,
                            const at::Tensor& seen) const {
    const int64_t kv_heads = options_.kv_heads == 0 ? H : options_.kv_heads;
    const auto heads = [&](const char* projection, const at::Tensor& rows, int64_t count) {
      const at::Tensor y = linear(name + "." + projection, rows);
      return y.unflatten(2, {count, y.size(2) / count}).transpose(1, 2);
    };
    const auto shared = [&](const char* projection) {
      return heads(projection, memory, kv_heads).repeat_interleave(H / kv_heads, 1);
    };
    const at::Tensor q = heads("query_projection", x, H), k = shared("key_projection");
    const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(q.size(3));
    const at::Tensor weights =
        at::softmax(scores.masked_fill(~seen, -std::numeric_limits<double>::infinity()), -1);
    const at::Tensor mixed = at::matmul(weights, shared("value_projection"));
    return {linear(name + ".output_projection", mixed.transpose(1, 2).flatten(2)), weights};
  }

  // The step of the function of that name; its weights join `weights`.
  template <class Function>
  at::Tensor step(const std::string& name, const at::Tensor& x, const Function& function) const {
    const std::string norm_name = name + "_norm";
    if (options_.norm_first) return x + function(name, norm(norm_name, x));
    return norm(norm_name, x + function(name, x));
  }

  at::Tensor feed_forward_step(const at::Tensor& x) const {
    return step("feed_forward", x, [&](const std::string& name, const at::Tensor& rows) {
      return feed_forward(name, rows);
    });
  }

  at::Tensor self_attention_step(const at::Tensor& x, const at::Tensor& seen,
                                 at::Tensor& weights) const {
    return step("self_attention", x, [&](const std::string& name, const at::Tensor& rows) {
      const AttentionOutput result = attention(name, rows, rows, seen);
      weights = result.weights.detach();
      return result.output;
    });
  }

  at::Tensor cross_attention_step(const at::Tensor& x, const at::Tensor& memory,
                                  const at::Tensor& seen, at::Tensor& weights) const {
    return step("cross_attention", x, [&](const std::string& name, const at::Tensor& rows) {
      const AttentionOutput result = attention(name, rows, memory, seen);
      weights = result.weights.detach();
      return result.output;
    });
  }

 private:
  torch::OrderedDict<std::string, at::Tensor> parameters_;
  TransformerLayerOptions options_;
};

template <class Module>
std::vector<at::Tensor> leaves_of(Module& module, std::vector<at::Tensor> leaves) {
  for (const at::Tensor& parameter : module->parameters()) leaves.push_back(parameter);
  return leaves;
}

// Norms and biases that a formula could not do without.
template <class Module>
void shake(Module& module) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& parameter : module->parameters()) {
    if (parameter.dim() == 1) parameter.add_(0.3 * at::randn_like(parameter));
  }
}

const std::vector<TransformerLayerOptions>& layers() {
  static const std::vector<TransformerLayerOptions> all = {
      {.embed_size = E, .heads = H},
      {.embed_size = E, .heads = H, .activation = Activation::kGelu, .norm_first = true},
      {.embed_size = E,
       .heads = H,
       .kv_heads = 2,
       .hidden_size = 20,
       .activation = Activation::kSwiglu,
       .norm = NormKind::kRms,
       .norm_first = true,
       .norm_eps = 1e-6,
       .bias = false},
      {.embed_size = E,
       .heads = H,
       .head_size = 5,
       .activation = Activation::kGeluTanh,
       .norm = NormKind::kRms}};
  return all;
}

const at::Tensor kLengths = at::tensor({5, 3}, at::kLong);
const at::Tensor kMemoryLengths = at::tensor({7, 2}, at::kLong);

at::Tensor seen_up_to(const at::Tensor& lengths, int64_t length) {  // [B,1,1,length]
  return at::arange(length) < lengths.view({B, 1, 1, 1});
}

TEST(TransformerEncoderLayer, IsItsFormula) {
  at::manual_seed(1);
  for (const TransformerLayerOptions& options : layers()) {
    TransformerEncoderLayer module(options);
    shake(module);
    const at::Tensor x = leaf({B, T, E});
    const AttentionOutput got = module(x, kLengths, Weights::kReturn);
    const Formula formula(*module, options);
    at::Tensor weights;
    const at::Tensor expected =
        formula.feed_forward_step(formula.self_attention_step(x, seen_up_to(kLengths, T), weights));
    expect_near(got.output, expected);
    expect_near(got.weights, weights, "weights");
    expect_same_gradients({got.output}, {expected}, leaves_of(module, {x}), 1e-4);
  }
}

TEST(TransformerDecoderLayer, IsItsFormula) {
  at::manual_seed(2);
  const at::Tensor causal = at::arange(T).unsqueeze(1) >= at::arange(T);
  for (TransformerLayerOptions options : layers()) {
    options.memory_size = 6;
    TransformerDecoderLayer module(options);
    shake(module);
    const at::Tensor x = leaf({B, T, E}), memory = leaf({B, S, 6});
    const auto got = module(x, memory, at::Tensor(), kMemoryLengths, Weights::kReturn);
    const Formula formula(*module, options);
    at::Tensor self_weights, cross_weights;
    const at::Tensor expected = formula.feed_forward_step(
        formula.cross_attention_step(formula.self_attention_step(x, causal, self_weights), memory,
                                     seen_up_to(kMemoryLengths, S), cross_weights));
    expect_near(got.output, expected);
    expect_near(got.self_weights, self_weights, "self weights");
    expect_near(got.cross_weights, cross_weights, "cross weights");
    expect_same_gradients({got.output}, {expected}, leaves_of(module, {x, memory}), 1e-4);
  }
}

TEST(TransformerDecoderLayer, WithoutCrossAttentionIsACausalEncoder) {
  at::manual_seed(3);
  TransformerLayerOptions options{.embed_size = E, .heads = H, .cross_attention = false};
  TransformerDecoderLayer decoder(options);
  at::manual_seed(3);
  TransformerEncoderLayer encoder(options);
  const at::Tensor x = at::randn({B, T, E});
  const auto got = decoder(x, at::Tensor(), at::Tensor(), at::Tensor(), Weights::kReturn);
  expect_near(got.output, encoder->attend(x, {.causal = Causal::kTopLeft}).output);
  EXPECT_FALSE(got.cross_weights.defined());
}

TEST(Transformer, BatchSecondIsTheSameTransposed) {
  const auto made = [](bool batch_first) {
    at::manual_seed(4);
    return TransformerDecoder(TransformerStackOptions{
        .layers = 2, .layer = {.embed_size = E, .heads = H, .batch_first = batch_first}});
  };
  const at::Tensor x = at::randn({B, T, E}), memory = at::randn({B, S, E});
  const at::Tensor got = made(false)(x.transpose(0, 1), memory.transpose(0, 1)).output;
  expect_near(got.transpose(0, 1), made(true)(x, memory).output);
}

TEST(Transformer, StacksAreTheirLayers) {
  for (const bool norm_first : {false, true}) {
    TransformerEncoder stack(TransformerStackOptions{
        .layers = 3, .layer = {.embed_size = E, .heads = H, .norm_first = norm_first}});
    const auto children = stack->named_children();
    const auto layers = std::dynamic_pointer_cast<torch::nn::ModuleListImpl>(children["layers"]);
    const at::Tensor x = at::randn({B, T, E});
    at::Tensor y = x;
    for (size_t i = 0; i < layers->size(); ++i) {
      y = layers->at<TransformerEncoderLayerImpl>(i).forward(y, kLengths).output;
    }
    EXPECT_EQ(children.contains("norm"), norm_first);
    if (norm_first) y = at::layer_norm(y, {E});
    const TransformerEncoderOutput got = stack(x, kLengths, Weights::kReturn);
    expect_near(got.output, y);
    ASSERT_EQ(got.weights.size(), 3);
    EXPECT_TRUE(got.weights[2].sizes().equals({B, H, T, T}));
    EXPECT_TRUE(stack(x).weights.empty());
  }
}

// One of each kind of positions in self-attention, and none.
std::vector<std::shared_ptr<AttentionPositionsImpl>> kinds_of_positions() {
  return {nullptr, RotaryPositions(RotaryPositionsOptions{.head_size = E / H, .size = 2}).ptr(),
          T5Bias(T5BiasOptions{.heads = H, .bidirectional = false}).ptr()};
}

TEST(TransformerDecoder, StepByStepIsTheWholeAtOnce) {
  const at::NoGradGuard no_grad;
  at::manual_seed(5);
  for (const auto& positions : kinds_of_positions()) {
    for (TransformerLayerOptions layer : layers()) {
      layer.positions = layer.head_size == 5 ? nullptr : positions;
      TransformerDecoder decoder(TransformerStackOptions{.layers = 2, .layer = layer});
      const at::Tensor x = at::randn({B, 9, E}), memory = at::randn({B, S, E});
      TransformerDecoderCache cache = decoder->make_cache(B, 2, /*grow=*/true);
      std::vector<at::Tensor> outputs;
      for (const at::Tensor& part : x.split_with_sizes({3, 1, 1, 4}, 1)) {
        const bool first = outputs.empty();
        outputs.push_back(decoder
                              ->attend(part, first ? memory : at::Tensor(),
                                       {.memory_lengths = first ? kMemoryLengths : at::Tensor()},
                                       &cache)
                              .output);
      }
      const at::Tensor whole = decoder(x, memory, at::Tensor(), kMemoryLengths).output;
      expect_near(at::cat(outputs, 1), whole);
      EXPECT_TRUE(cache.lengths().equal(at::tensor({9, 9}, at::kLong)));
    }
  }
}

TEST(TransformerDecoder, PromptsOfDifferentLengthsAndBeams) {
  const at::NoGradGuard no_grad;
  TransformerDecoder decoder(TransformerStackOptions{
      .layers = 2, .layer = {.embed_size = E, .heads = H, .norm_first = true}});
  const at::Tensor x = at::randn({B, 6, E}), memory = at::randn({B, S, E});
  TransformerDecoderCache cache = decoder->make_cache(B, 6);
  decoder->attend(x.narrow(1, 0, 5), memory, {.lengths = kLengths}, &cache);
  // The beams change places: what follows the second is asked of the first, and the reverse.
  cache.select(at::tensor({1, 0}, at::kLong));
  const at::Tensor next = at::cat({x.narrow(0, 1, 1).narrow(1, 3, 1),  // of element 1, place 3
                                   x.narrow(0, 0, 1).narrow(1, 5, 1)});
  const at::Tensor got = decoder->attend(next, {}, {}, &cache).output;
  const at::Tensor whole = decoder(x, memory).output;
  expect_near(got[0][0], whole[1][3]);
  expect_near(got[1][0], whole[0][5]);
  cache.reset();
  EXPECT_TRUE(cache.lengths().equal(at::tensor({0, 0}, at::kLong)));
  expect_near(decoder->attend(x, memory, {}, &cache).output, whole);
}

TEST(Transformer, MasksReachTheAttentions) {
  TransformerLayerOptions options{.embed_size = E, .heads = H};
  TransformerDecoderLayer decoder(options);
  const at::Tensor x = at::randn({B, T, E}), memory = at::randn({B, S, E});
  at::Tensor padding = at::zeros({B, S}, at::kBool);
  padding[1].narrow(0, 2, 5).fill_(true);
  const auto by_lengths = decoder(x, memory, at::Tensor(), kMemoryLengths).output;
  expect_near(decoder->attend(x, memory, {.memory_key_padding = padding}).output, by_lengths);
  const auto window =
      decoder->attend(x, memory, {.window = {.left = 1}, .weights = Weights::kReturn});
  EXPECT_EQ(window.self_weights.select(3, 0).narrow(2, 2, T - 2).abs().max().item<float>(), 0);
  const auto none =
      decoder->attend(x, memory, {.head_mask = at::zeros({H}), .mask = program::s() < 1});
  EXPECT_TRUE(none.output.isfinite().all().item<bool>());
}

TEST(Transformer, DropoutIsForTrainingAlone) {
  const at::Tensor x = at::randn({B, 40, E});
  for (const TransformerLayerOptions& options :
       std::vector<TransformerLayerOptions>{{.embed_size = E, .heads = H, .dropout = 0.5},
                                            {.embed_size = E, .heads = H, .attention_dropout = 0.5},
                                            {.embed_size = E, .heads = H, .hidden_dropout = 0.5}}) {
    TransformerEncoderLayer module(options);
    EXPECT_FALSE(module(x).output.allclose(module(x).output));
    module->eval();
    EXPECT_TRUE(module(x).output.equal(module(x).output));
  }
}

TEST(Transformer, PositionsAreOneModuleOrManyWithOneNameEach) {
  const auto names = [](const TransformerStackOptions& options) {
    std::vector<std::string> found;
    for (const std::string& name : TransformerEncoder(options)->named_parameters().keys()) {
      if (name.find("positions") != std::string::npos) found.push_back(name);
    }
    return found;
  };
  const auto bias = [] { return T5Bias(T5BiasOptions{.heads = H, .bidirectional = true}).ptr(); };
  const TransformerLayerOptions layer{.embed_size = E, .heads = H};
  TransformerStackOptions shared{.layers = 2, .layer = layer};
  shared.layer.positions = bias();
  EXPECT_EQ(names(shared), std::vector<std::string>{"positions.bias"});
  EXPECT_EQ(names({.layers = 2, .layer = layer, .make_positions = bias}),
            (std::vector<std::string>{"layers.0.self_attention.positions.bias",
                                      "layers.1.self_attention.positions.bias"}));
  TransformerEncoder stack(shared);
  const at::Tensor x = at::randn({B, T, E});
  const at::Tensor before = stack(x).output;
  const at::NoGradGuard no_grad;
  stack->named_parameters()["positions.bias"].normal_(0, 3);
  EXPECT_FALSE(stack(x).output.allclose(before));
  shared.make_positions = bias;
  EXPECT_THROW(TransformerEncoder{shared}, c10::Error);
}

// test_nn_transformer.py has the same list.
TEST(Transformer, NamesOfTheStateAreThoseOfPython) {
  std::set<std::string> expected = {"norm.weight", "norm.bias", "positions.bias"};
  for (const std::string name : {"weight", "bias"}) {
    for (const std::string attention : {"self_attention", "cross_attention"}) {
      for (const std::string projection : {"query", "key", "value", "output"}) {
        expected.insert("layers.0." + attention + "." + projection + "_projection." + name);
      }
      expected.insert("layers.0." + attention + "_norm." + name);
    }
    expected.insert("layers.0.feed_forward.hidden_projection." + name);
    expected.insert("layers.0.feed_forward.output_projection." + name);
    expected.insert("layers.0.feed_forward_norm." + name);
  }
  TransformerStackOptions options{
      .layers = 1, .layer = {.embed_size = E, .heads = H}, .final_norm = true};
  options.layer.positions = T5Bias(T5BiasOptions{.heads = H, .bidirectional = false}).ptr();
  const auto names = TransformerDecoder(options)->named_parameters().keys();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected);
  const FeedForward swiglu(
      FeedForwardOptions{.embed_size = E, .activation = Activation::kSwiglu, .bias = false});
  EXPECT_EQ(swiglu->named_parameters().keys(),
            (std::vector<std::string>{"hidden_projection.weight", "gate_projection.weight",
                                      "output_projection.weight"}));
}

TEST(Transformer, InitialValues) {
  const int64_t wide = 64;
  TransformerLayerOptions layer{.embed_size = wide, .heads = 4};
  TransformerEncoderLayer glorot(layer);
  const double bound = std::sqrt(6.0 / (wide + 4 * wide));
  const at::Tensor hidden = glorot->named_parameters()["feed_forward.hidden_projection.weight"];
  EXPECT_LE(hidden.abs().max().item<double>(), bound);
  EXPECT_GT(hidden.abs().max().item<double>(), 0.98 * bound);
  layer.initialization = Initialization::kGpt2;
  TransformerDecoder gpt2(TransformerStackOptions{.layers = 3, .layer = layer});
  gpt2->reset_parameters();  // as the constructor: not scaled twice
  int64_t residuals = 0;
  for (const auto& [name, parameter] : gpt2->named_parameters().pairs()) {
    if (parameter.dim() != 2) continue;
    const bool residual = name.ends_with("output_projection.weight");
    residuals += residual;
    EXPECT_NEAR(parameter.std().item<double>(), residual ? 0.02 / 3 : 0.02, 1e-3) << name;
  }
  EXPECT_EQ(residuals, 9);
}

TEST(TokenEmbedding, ReadsAndWritesWithOneMatrix) {
  at::manual_seed(6);
  TokenEmbedding embedding(TokenEmbeddingOptions{
      .vocabulary_size = 11,
      .embed_size = E,
      .scaled = true,
      .padding_index = 2,
      .positions = torch::nn::AnyModule(
          LearnedPositions(LearnedPositionsOptions{.length = 9, .embed_size = E}))});
  auto parameters = embedding->named_parameters();
  ASSERT_EQ(parameters.size(), 2);
  const at::Tensor weight = parameters["weight"], places = parameters["positions.weight"];
  EXPECT_EQ(weight[2].abs().max().item<float>(), 0);
  const at::Tensor tokens = at::tensor({3, 2, 10, 0, 3, 1}, at::kLong).view({2, 3});
  const at::Tensor offset = at::tensor({0, 4}, at::kLong);
  const at::Tensor place = offset.unsqueeze(1) + at::arange(3);
  const at::Tensor rows = weight.index_select(0, tokens.flatten()).view({2, 3, E});
  const at::Tensor at_places = places.index_select(0, place.flatten()).view({2, 3, E});
  const at::Tensor got = embedding(tokens, offset);
  expect_near(got, rows * std::sqrt(static_cast<double>(E)) + at_places);
  expect_near(embedding->logits(got), at::matmul(got, weight.t()));
  got.sum().backward();
  EXPECT_EQ(weight.grad()[2].abs().max().item<float>(), 0);
  EXPECT_GT(weight.grad()[3].abs().max().item<float>(), 0);
  TokenEmbedding sinusoidal(TokenEmbeddingOptions{
      .vocabulary_size = 11,
      .embed_size = E,
      .positions =
          torch::nn::AnyModule(SinusoidalPositions(SinusoidalPositionsOptions{.embed_size = E}))});
  EXPECT_TRUE(sinusoidal(tokens).sizes().equals({2, 3, E}));
}

TEST(Transformer, SizesMayBeEmpty) {
  TransformerDecoder decoder(
      TransformerStackOptions{.layers = 1, .layer = {.embed_size = E, .heads = H}});
  const at::Tensor nothing = at::zeros({B, 0, E}), rows = at::randn({B, T, E});
  EXPECT_TRUE(decoder(nothing, rows).output.sizes().equals({B, 0, E}));
  EXPECT_TRUE(decoder(rows, nothing).output.isfinite().all().item<bool>());
  TransformerDecoderCache cache = decoder->make_cache(B, T);
  EXPECT_TRUE(decoder->attend(rows, nothing, {}, &cache).output.isfinite().all().item<bool>());
}

TEST(Transformer, RefusesInOneLine) {
  const TransformerLayerOptions layer{.embed_size = E, .heads = H};
  const at::Tensor x = at::randn({B, T, E});
  EXPECT_EQ(error_of([&] { TransformerDecoderLayer{layer}(x); }),
            "[TransformerDecoderLayer] memory: expected [B,S,memory_size], as no cache holds it "
            "yet, got none");
  EXPECT_EQ(
      error_of([&] {
        TransformerEncoderLayer{TransformerLayerOptions{.embed_size = E, .heads = H, .dropout = 1}};
      }),
      "[TransformerEncoderLayer] dropout: expected in [0, 1), got 1");
  EXPECT_EQ(error_of([&] { FeedForward{FeedForwardOptions{.embed_size = E, .hidden_size = -1}}; }),
            "[FeedForward] hidden_size: expected at least 1, got -1");
  EXPECT_EQ(error_of([&] {
              TokenEmbedding{
                  TokenEmbeddingOptions{.vocabulary_size = 3, .embed_size = E, .padding_index = 3}};
            }),
            "[TokenEmbedding] padding_index: expected in [0, 3), got 3");
  EXPECT_NE(printed(TransformerEncoderLayer(layer)).find("norm_first=false"), std::string::npos);
}

// Gradient checkpointing.

using Tensors = std::vector<at::Tensor>;

// Gradients of the sum of the results, weighed by fixed numbers in (0, 1], for each leaf.
Tensors gradients(const Tensors& results, const Tensors& leaves) {
  at::Tensor loss = at::zeros({});
  for (const at::Tensor& result : results) {
    if (!result.defined() || !result.requires_grad()) continue;
    const at::Tensor weights = at::arange(1, result.numel() + 1) / result.numel();
    loss = loss + (result * weights.view(result.sizes())).sum();
  }
  return torch::autograd::grad({loss}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
}

void expect_checkpointed_the_same(const CheckpointFunction& function, const Tensors& inputs,
                                  const Tensors& leaves) {
  at::manual_seed(7);
  const Tensors plain = function(inputs);
  at::manual_seed(7);
  const Tensors again = checkpoint(function, inputs);
  const at::Tensor drawn = at::randn({3});
  ASSERT_EQ(plain.size(), again.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    ASSERT_EQ(plain[i].defined(), again[i].defined());
    if (!plain[i].defined()) continue;
    EXPECT_TRUE(plain[i].equal(again[i]));
    EXPECT_EQ(plain[i].requires_grad(), again[i].requires_grad());
  }
  const Tensors expected = gradients(plain, leaves), got = gradients(again, leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    ASSERT_EQ(got[i].defined(), expected[i].defined()) << i;
    if (got[i].defined()) {
      EXPECT_TRUE(got[i].equal(expected[i])) << i;
    }
  }
  // The generator goes on from where it was, whatever the backward pass drew.
  at::manual_seed(7);
  function(inputs);
  EXPECT_TRUE(at::randn({3}).equal(drawn));
}

TEST(Checkpoint, ALayerWithDropoutDropsTheSame) {
  TransformerEncoderLayer layer(TransformerLayerOptions{.embed_size = E,
                                                        .heads = H,
                                                        .dropout = 0.3,
                                                        .attention_dropout = 0.3,
                                                        .hidden_dropout = 0.3});
  const CheckpointFunction function = [layer](const Tensors& x) mutable {
    const AttentionOutput result = layer(x[0], x[1], Weights::kReturn);
    return Tensors{result.output, result.weights};
  };
  const at::Tensor x = leaf({B, T, E});
  expect_checkpointed_the_same(function, {x, kLengths}, leaves_of(layer, {x}));
  // Undefined inputs; and none that needs a gradient, though parameters do.
  expect_checkpointed_the_same(function, {at::randn({B, T, E}), at::Tensor()},
                               leaves_of(layer, {}));
}

TEST(Checkpoint, SeveralOutputsOfWhichSomeAreNothing) {
  const at::Tensor a = leaf({3}), b = leaf({3}), unused = leaf({3});
  const CheckpointFunction function = [](const Tensors& x) {
    return Tensors{x[0] * x[1].exp(), at::Tensor(), x[0].detach() + 1, x[1].sin(), x[0]};
  };
  expect_checkpointed_the_same(function, {a, b, unused}, {a, b, unused});
  // Only one of the outputs is used.
  const Tensors outputs = checkpoint(function, {a, b, unused});
  const Tensors got = gradients({outputs[3]}, {a, b});
  EXPECT_FALSE(got[0].defined());
  expect_near(got[1], b.cos() * at::arange(1, 4) / 3);
}

TEST(Checkpoint, WhatTheFunctionCapturesGetsGradientsToo) {
  const at::Tensor a = leaf({3}), b = leaf({3}), x = leaf({3});
  const at::Tensor between = a * b;  // not a leaf, and used outside as well
  const CheckpointFunction function = [between, b](const Tensors& inputs) {
    return Tensors{(inputs[0] * between).tanh() * b + inputs[0] * inputs[0]};
  };
  const auto all = [&](bool again) {
    const Tensors inputs = {x * 2};
    return gradients({(again ? checkpoint(function, inputs) : function(inputs))[0] + between * x},
                     {a, b, x});
  };
  const Tensors expected = [&] {
    const at::Tensor fresh = a * b, y = x * 2;
    return gradients({(y * fresh).tanh() * b + y * y + fresh * x}, {a, b, x});
  }();
  const Tensors got = all(true);
  for (size_t i = 0; i < 3; ++i) expect_near(got[i], expected[i]);
}

TEST(Checkpoint, NestsAndIsUsedTwiceInOneGraph) {
  TransformerEncoderLayer layer(
      TransformerLayerOptions{.embed_size = E, .heads = H, .dropout = 0.2});
  const std::function<at::Tensor(const at::Tensor&)> once = [layer](const at::Tensor& x) mutable {
    return layer(x).output;
  };
  const CheckpointFunction nested = [once](const Tensors& x) {
    return Tensors{checkpoint(once, checkpoint(once, x[0])) + x[0]};
  };
  const at::Tensor x = leaf({B, T, E});
  const CheckpointFunction twice = [nested](const Tensors& inputs) {
    return Tensors{checkpoint(nested, checkpoint(nested, inputs))[0] * inputs[0]};
  };
  at::manual_seed(8);
  const CheckpointFunction plain = [once](const Tensors& inputs) {
    at::Tensor y = inputs[0];
    for (int i = 0; i < 2; ++i) y = once(once(y)) + y;
    return Tensors{y * inputs[0]};
  };
  const Tensors leaves = leaves_of(layer, {x});
  const Tensors expected = gradients(plain({x}), leaves);
  at::manual_seed(8);
  const Tensors got = gradients(twice({x}), leaves);
  for (size_t i = 0; i < leaves.size(); ++i) expect_near(got[i], expected[i]);
}

TEST(Checkpoint, RunsAgainOnlyWhenGradientsArrive) {
  int runs = 0;
  const std::function<at::Tensor(const at::Tensor&)> function = [&runs](const at::Tensor& x) {
    ++runs;
    return x.exp();
  };
  const at::Tensor x = leaf({3});
  const at::Tensor y = checkpoint(function, x);
  EXPECT_EQ(runs, 1);
  torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true);
  torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/false);
  EXPECT_EQ(runs, 3);
  EXPECT_NE(error_of([&] { torch::autograd::grad({y.sum()}, {x}); }).find("second time"),
            std::string::npos);
  {
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(checkpoint(function, x).requires_grad());
  }
  EXPECT_FALSE(checkpoint(function, x.detach()).requires_grad());
  EXPECT_EQ(runs, 5);
}

TEST(Checkpoint, IsDifferentiatedTwice) {
  const at::Tensor x = leaf({3}), w = leaf({3});
  const std::function<at::Tensor(const at::Tensor&)> function = [w](const at::Tensor& y) {
    return (y * w).pow(3);
  };
  const auto second = [&](const at::Tensor& y) {
    const auto first = torch::autograd::grad({y.sum()}, {x, w}, {}, true, /*create_graph=*/true);
    return gradients({first[0] * first[1]}, {x, w});
  };
  const Tensors expected = second(function(x)), got = second(checkpoint(function, x));
  for (size_t i = 0; i < 2; ++i) expect_near(got[i], expected[i]);
}

TEST(Checkpoint, HooksSeeTheWholeGradientOnce) {
  const at::Tensor x = leaf({3}), w = leaf({3});
  w.register_hook([](const at::Tensor& gradient) { return 2 * gradient; });
  const at::Tensor inside = x * 1;
  inside.retain_grad();
  const std::function<at::Tensor(const at::Tensor&)> function = [w](const at::Tensor& y) {
    return y * w;
  };
  checkpoint(function, inside).sum().backward();
  expect_near(w.grad(), 2 * x.detach());
  expect_near(inside.grad(), w.detach());
}

TEST(Checkpoint, KeepsNothingBetweenAndLetsGoOfTheFunction) {
  const auto alive = std::make_shared<int>(0);
  const at::Tensor x = leaf({3});
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
  Weak between(x.getIntrusivePtr());
  const std::function<at::Tensor(const at::Tensor&)> function = [&between,
                                                                 alive](const at::Tensor& y) {
    const at::Tensor kept = y.exp();  // which exp keeps for its derivative
    between =
        c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>(kept.getIntrusivePtr());
    return kept.sin();
  };
  at::Tensor y = checkpoint(function, x);
  EXPECT_TRUE(between.expired());
  EXPECT_GT(alive.use_count(), 2);
  y.sum().backward();
  y.reset();
  EXPECT_EQ(alive.use_count(), 2);  // here and in `function`
}

TEST(Checkpoint, SaysWhenTheFunctionReadsOtherTensorsTheSecondTime) {
  const at::Tensor x = leaf({3}), w = leaf({3});
  int runs = 0;
  const std::function<at::Tensor(const at::Tensor&)> function = [&](const at::Tensor& y) {
    return runs++ == 0 ? y.exp() : y * w;
  };
  const at::Tensor y = checkpoint(function, x);
  EXPECT_NE(error_of([&] { y.sum().backward(); }).find("[checkpoint] function: expected"),
            std::string::npos);
}

TEST(Checkpoint, AutocastIsAsItWas) {
  FeedForward module(FeedForwardOptions{.embed_size = E});
  const CheckpointFunction function = [module](const Tensors& x) mutable {
    return Tensors{module(module(x[0]))};  // reads its parameters twice: from autocast's cache
  };
  const at::Tensor x = leaf({T, E});
  const Tensors leaves = leaves_of(module, {x});
  const auto run = [&](bool again) {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const Tensors outputs = again ? checkpoint(function, {x}) : function({x});
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();
    EXPECT_EQ(outputs[0].scalar_type(), at::kBFloat16);
    return gradients({outputs[0].to(at::kFloat)}, leaves);
  };
  const Tensors expected = run(false), got = run(true);
  for (size_t i = 0; i < leaves.size(); ++i) expect_near(got[i], expected[i], "gradient", 1e-2);
  EXPECT_TRUE(at::autocast::is_autocast_cache_enabled());
}

TEST(Checkpoint, AStackGivesTheSameGradients) {
  TransformerStackOptions options{
      .layers = 3, .layer = {.embed_size = E, .heads = H, .norm_first = true, .dropout = 0.1}};
  TransformerDecoder kept(options);
  options.checkpoint = true;
  TransformerDecoder again(options);
  {
    const at::NoGradGuard no_grad;
    auto from = kept->named_parameters();
    for (auto& item : again->named_parameters()) item.value().copy_(from[item.key()]);
  }
  const at::Tensor x = leaf({B, T, E}), memory = leaf({B, S, E});
  const auto run = [&](TransformerDecoder& stack) {
    at::manual_seed(9);
    const auto result = stack(x, memory, at::Tensor(), kMemoryLengths, Weights::kReturn);
    EXPECT_EQ(result.cross_weights.size(), 3);
    return gradients({result.output}, leaves_of(stack, {x, memory}));
  };
  const Tensors expected = run(kept), got = run(again);
  for (size_t i = 0; i < expected.size(); ++i) expect_near(got[i], expected[i]);
}

}  // namespace
}  // namespace heed::nn
