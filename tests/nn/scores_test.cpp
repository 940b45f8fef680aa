// Modules that are a score: each against its formula, outputs, weights and gradients.
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/init.h>

#include <cmath>
#include <limits>
#include <map>

#include "heed/nn/additive_attention.h"
#include "heed/nn/content_location_attention.h"
#include "heed/nn/cosine_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/kernel_regression.h"
#include "heed/nn/location_attention.h"
#include "heed/nn/location_sensitive_attention.h"
#include "tests/nn/testing.h"

namespace heed::nn {
namespace {

constexpr int64_t B = 3, T = 5, S = 7;

at::Tensor lengths() { return at::tensor({7, 2, 4}, at::kLong); }  // [B]

// scores [B,T,S] -> weights, keys beyond each length left out.
at::Tensor masked_softmax(const at::Tensor& scores) {
  const at::Tensor beyond = at::arange(S).view({1, 1, S}).ge(lengths().view({B, 1, 1}));
  return at::softmax(scores.masked_fill(beyond, -std::numeric_limits<double>::infinity()), -1);
}

at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); }

// Parameters as training leaves them, not at their start.
template <class Module>
std::map<std::string, at::Tensor> trained(Module& module) {
  std::map<std::string, at::Tensor> parameters;
  for (auto& item : module->named_parameters()) {
    torch::nn::init::normal_(item.value(), 0.1, 0.5);
    parameters[item.key()] = item.value();
  }
  return parameters;
}

// Compared with state dicts of Python in tests/python/test_nn_scores.py, which lists the same.
template <class Module>
std::map<std::string, std::vector<int64_t>> sizes_of_parameters(const Module& module) {
  std::map<std::string, std::vector<int64_t>> sizes;
  for (const auto& item : module->named_parameters()) {
    sizes[item.key()] = item.value().sizes().vec();
  }
  return sizes;
}

// Output, weights and every gradient of the module's must be those of softmax(scores) values.
void expect_same(const AttentionOutput& actual, const at::Tensor& scores, const at::Tensor& values,
                 std::vector<at::Tensor> leaves) {
  const at::Tensor weights = masked_softmax(scores);
  const at::Tensor output = at::bmm(weights, values);
  expect_near(actual.output, output);
  expect_near(actual.weights, weights.detach());
  EXPECT_FALSE(actual.weights.requires_grad());
  leaves.push_back(values);
  expect_same_gradients({actual.output}, {output}, leaves);
}

TEST(DotAttention, IsTheSoftmaxOfProducts) {
  at::manual_seed(10);
  const at::Tensor q = random({B, T, 6}), k = random({B, S, 6}), v = random({B, S, 4});
  for (const bool scaled : {true, false}) {
    DotAttention module(DotAttentionOptions{.scaled = scaled});
    const at::Tensor scores = at::bmm(q, k.transpose(1, 2)) * (scaled ? 1 / std::sqrt(6.0) : 1.0);
    expect_same(module(q, k, v, lengths(), Weights::kReturn), scores, v, {q, k});
  }
}

TEST(DotAttention, GivesNoWeightsUnlessAsked) {
  DotAttention module;
  const at::Tensor x = at::randn({1, 2, 4});
  EXPECT_FALSE(module(x, x, x).weights.defined());
}

TEST(GeneralAttention, PutsAMatrixBetweenQueryAndKey) {
  at::manual_seed(11);
  const at::Tensor q = random({B, T, 6}), memory = random({B, S, 5}), v = random({B, S, 4});
  GeneralAttention module(GeneralAttentionOptions{.query_size = 6, .key_size = 5});
  const at::Tensor W = trained(module)["key_projection.weight"];  // [6,5]
  const at::Tensor scores = at::bmm(at::matmul(q, W), memory.transpose(1, 2));
  expect_same(module(q, module->keys(memory), v, lengths(), Weights::kReturn), scores, v,
              {q, memory, W});
}

TEST(DotAttention, OfTwoKeys) {
  DotAttention module(DotAttentionOptions{.scaled = false});
  const at::Tensor query = at::tensor({1.0f, 2.0f}).view({1, 1, 2});
  const at::Tensor keys = at::tensor({2.0f, 1.0f, 1.0f, 0.0f}).view({1, 2, 2});
  const at::Tensor values = at::tensor({1.0f, 1.0f, 2.0f, 0.0f}).view({1, 2, 2});
  const AttentionOutput result = module(query, keys, values, at::Tensor(), Weights::kReturn);
  EXPECT_TRUE(result.weights.flatten().allclose(at::tensor({0.952574f, 0.047426f}), 0, 1e-6));
  EXPECT_TRUE(result.output.flatten().allclose(at::tensor({1.047426f, 0.952574f}), 0, 1e-6));
}

TEST(DotAttention, OverValuesOfOnesGivesOnes) {
  const at::Tensor q = at::tensor({1.0f, 0.0f, 2.0f, 0.0f, 4.0f, 1.0f}).view({1, 3, 2});
  const at::Tensor k = at::tensor({0.0f, 1.0f, 1.0f, 0.0f, 4.0f, 1.0f}).view({1, 3, 2});
  DotAttention module;
  const at::Tensor ones = at::ones({1, 3, 2});
  EXPECT_TRUE(module(q, k, ones).output.allclose(ones, 0, 1e-6));
}

TEST(AdditiveAttention, IsTheMlpScore) {
  at::manual_seed(9);
  for (const int64_t queries : {int64_t{1}, T, int64_t{20}}) {
    const at::Tensor q = random({B, queries, 6}), memory = random({B, S, 5}), v = random({B, S, 4});
    AdditiveAttention module(AdditiveAttentionOptions{.query_size = 6, .key_size = 5, .size = 9});
    auto p = trained(module);  // at its start v is 0, and all weights are alike
    const at::Tensor projected =
        at::linear(q, p["query_projection.weight"], p["query_projection.bias"]);  // [B,T,9]
    const at::Tensor hidden = at::tanh(projected.unsqueeze(2) +
                                       at::linear(memory, p["key_projection.weight"]).unsqueeze(1));
    const at::Tensor scores = at::matmul(hidden, p["score_weight"].squeeze(0));  // [B,T,S]
    expect_same(module(q, module->keys(memory), v, lengths(), Weights::kReturn), scores, v,
                {q, memory, p["query_projection.weight"], p["query_projection.bias"],
                 p["key_projection.weight"], p["score_weight"]});
  }
}

TEST(AdditiveAttention, StartsAsInThePaper) {
  at::manual_seed(1);
  AdditiveAttention module(AdditiveAttentionOptions{.query_size = 60, .key_size = 50, .size = 40});
  auto parameters = module->named_parameters();
  EXPECT_TRUE(parameters["score_weight"].eq(0).all().item<bool>());
  EXPECT_TRUE(parameters["query_projection.bias"].eq(0).all().item<bool>());
  EXPECT_NEAR(parameters["query_projection.weight"].std().item<double>(), 0.001, 1e-4);
  EXPECT_NEAR(parameters["key_projection.weight"].std().item<double>(), 0.001, 1e-4);
  trained(module);
  module->reset_parameters();
  EXPECT_TRUE(parameters["score_weight"].eq(0).all().item<bool>());
  EXPECT_NEAR(parameters["key_projection.weight"].std().item<double>(), 0.001, 1e-4);
}

TEST(GeneralAttention, StartsAsInThePaper) {
  GeneralAttention module(GeneralAttentionOptions{.query_size = 30, .key_size = 40});
  const double largest =
      module->named_parameters()["key_projection.weight"].abs().max().item<double>();
  EXPECT_LE(largest, 0.1);
  EXPECT_GT(largest, 0.09);
}

TEST(CosineAttention, IsTheSoftmaxOfCosinesTimesAFactor) {
  at::manual_seed(2);
  const at::Tensor q = random({B, T, 6}), k = random({B, S, 6}), v = random({B, S, 4});
  CosineAttention module;
  const at::Tensor factor = trained(module)["logit_scale"];
  const auto unit = [](const at::Tensor& x) { return x / x.norm(2, {-1}, /*keepdim=*/true); };
  const at::Tensor scores = at::bmm(unit(q), unit(k).transpose(1, 2)) * factor.exp();
  expect_same(module(q, k, v, lengths(), Weights::kReturn), scores, v, {q, k, factor});
}

TEST(CosineAttention, ItsTemperatureHasAFloor) {
  const at::Tensor q = at::randn({1, 2, 6}), k = at::randn({1, 3, 6}), v = at::randn({1, 3, 4});
  CosineAttention module, at_floor(CosineAttentionOptions{.initial_scale = 100});
  torch::nn::init::constant_(module->named_parameters()["logit_scale"], std::log(1000));
  expect_near(module(q, k, v).output, at_floor(q, k, v).output);
}

TEST(LocationAttention, IsTheSoftmaxOfAProjectedQuery) {
  at::manual_seed(3);
  const at::Tensor q = random({B, T, 6}), v = random({B, S, 4});
  LocationAttention module(LocationAttentionOptions{.query_size = 6, .max_length = 10});
  const at::Tensor W = trained(module)["position_keys"];
  const at::Tensor scores = at::linear(q, W).narrow(2, 0, S);
  expect_same(module(q, v, lengths(), Weights::kReturn), scores, v, {q, W});
}

TEST(KernelRegression, IsTheSoftmaxOfSquaredDistances) {
  at::manual_seed(4);
  const at::Tensor q = random({B, T, 3}), k = random({B, S, 3}), v = random({B, S, 4});
  KernelRegression module;
  const at::Tensor log_bandwidth = trained(module)["log_bandwidth"];
  const at::Tensor square = (q.unsqueeze(2) - k.unsqueeze(1)).square().sum(-1);  // [B,T,S]
  const at::Tensor scores = -square / (2 * log_bandwidth.exp().square());
  expect_same(module(q, k, v, lengths(), Weights::kReturn), scores, v, {q, k, log_bandwidth});
}

TEST(KernelRegression, KeepsItsDigitsFarFromTheOrigin) {
  at::manual_seed(5);
  const at::Tensor points = at::randn({1, 20, 2}) + 1000, values = at::randn({1, 20, 1});
  KernelRegression module(KernelRegressionOptions{.bandwidth = 0.1});
  const at::Tensor exact = points.to(at::kDouble);
  const at::Tensor square = (exact.unsqueeze(2) - exact.unsqueeze(1)).square().sum(-1);
  const at::Tensor expected = at::bmm(at::softmax(-square / 0.02, -1), values.to(at::kDouble));
  expect_near(module(points, points, values).output, expected.to(at::kFloat));
}

TEST(ContentLocationAttention, AddsAPredictedGaussianToTheProduct) {
  at::manual_seed(6);
  const at::Tensor q = random({B, T, 6}), k = random({B, S, 6}), v = random({B, S, 4});
  for (const bool scaled : {true, false}) {
    ContentLocationAttention module(ContentLocationAttentionOptions{.size = 6, .scaled = scaled});
    auto p = trained(module);
    const at::Tensor hidden = at::tanh(at::linear(q, p["hidden_projection.weight"]));
    const at::Tensor n = lengths().view({B, 1, 1});
    const at::Tensor centre = n * at::sigmoid(at::linear(hidden, p["centre_projection.weight"]));
    const at::Tensor deviation =
        n * at::sigmoid(at::linear(hidden, p["window_projection.weight"])) / 2;  // [B,T,1]
    const at::Tensor scores = at::bmm(q, k.transpose(1, 2)) * (scaled ? 1 / std::sqrt(6.0) : 1.0) -
                              (at::arange(S) - centre).square() / (2 * deviation.square());
    expect_same(module(q, k, v, lengths(), Weights::kReturn), scores, v,
                {q, k, p["hidden_projection.weight"], p["centre_projection.weight"],
                 p["window_projection.weight"]});
  }
}

TEST(LocationSensitiveAttention, SeesWhereTheStepBeforeLooked) {
  at::manual_seed(7);
  const at::Tensor q = random({B, T, 6}), memory = random({B, S, 5}), v = random({B, S, 4});
  LocationSensitiveAttention module(LocationSensitiveAttentionOptions{
      .query_size = 6, .key_size = 5, .size = 9, .filters = 2, .width = 3});
  auto p = trained(module);
  std::vector<at::Tensor> outputs, weights, expected_outputs, expected_weights;
  at::Tensor previous, expected_previous;
  for (int64_t t = 0; t < T; ++t) {
    const at::Tensor query = q.narrow(1, t, 1);
    const AttentionOutput step = module(query, module->keys(memory), v, previous, lengths());
    outputs.push_back(step.output);
    weights.push_back(previous = step.weights);

    at::Tensor hidden =
        at::linear(query, p["query_projection.weight"], p["query_projection.bias"]) +
        at::linear(memory, p["key_projection.weight"]);  // [B,S,9]
    if (t > 0) {
      const at::Tensor features = at::conv1d(expected_previous, p["location_convolution.weight"],
                                             {}, {1}, at::IntArrayRef{1});
      hidden = hidden + at::linear(features.transpose(1, 2), p["location_projection.weight"]);
    }
    const at::Tensor scores = at::matmul(at::tanh(hidden), p["score_weight"].squeeze(0));
    expected_previous = masked_softmax(scores.unsqueeze(1));  // [B,1,S]
    expected_weights.push_back(expected_previous);
    expected_outputs.push_back(at::bmm(expected_previous, v));
  }
  expect_near(at::cat(outputs, 1), at::cat(expected_outputs, 1));
  expect_near(at::cat(weights, 1), at::cat(expected_weights, 1));
  std::vector<at::Tensor> leaves = {q, memory, v};
  for (const auto& [name, parameter] : p) leaves.push_back(parameter);
  expect_same_gradients({at::cat(outputs, 1), at::cat(weights, 1)},
                        {at::cat(expected_outputs, 1), at::cat(expected_weights, 1)}, leaves);
}

TEST(LocationSensitiveAttention, PaddingLeaksNowhereAndNoKeysGive0) {
  at::manual_seed(8);
  LocationSensitiveAttention module(LocationSensitiveAttentionOptions{
      .query_size = 6, .key_size = 5, .size = 9, .filters = 2, .width = 3});
  trained(module);
  const at::Tensor query = at::randn({2, 1, 6}), previous = at::ones({2, 1, 4});
  at::Tensor keys = at::randn({2, 4, 9}), values = at::randn({2, 4, 3});
  keys.narrow(1, 2, 2).fill_(std::nan(""));
  values.narrow(1, 2, 2).fill_(std::nan(""));
  const auto [output, weights] =
      module(query, keys, values, previous, at::tensor({2, 0}, at::kLong));
  EXPECT_TRUE(output.isfinite().all().item<bool>());
  EXPECT_TRUE(output[1].eq(0).all().item<bool>());
  EXPECT_TRUE(weights[1].eq(0).all().item<bool>());
  EXPECT_NEAR(weights[0].sum().item<double>(), 1, 1e-6);
  (output.sum() + weights.square().sum()).backward();
  EXPECT_TRUE(module->named_parameters()["score_weight"].grad().isfinite().all().item<bool>());
}

TEST(Scores, ParametersAreNamedAsInPython) {
  using Sizes = std::map<std::string, std::vector<int64_t>>;
  const AdditiveAttention additive(
      AdditiveAttentionOptions{.query_size = 6, .key_size = 5, .size = 9});
  EXPECT_EQ(sizes_of_parameters(additive), (Sizes{{"score_weight", {1, 9}},
                                                  {"query_projection.weight", {9, 6}},
                                                  {"query_projection.bias", {9}},
                                                  {"key_projection.weight", {9, 5}}}));
  const GeneralAttention general(GeneralAttentionOptions{.query_size = 6, .key_size = 5});
  EXPECT_EQ(sizes_of_parameters(general), (Sizes{{"key_projection.weight", {6, 5}}}));
  EXPECT_EQ(sizes_of_parameters(CosineAttention()), (Sizes{{"logit_scale", {}}}));
  const LocationAttention location(LocationAttentionOptions{.query_size = 6, .max_length = 10});
  EXPECT_EQ(sizes_of_parameters(location), (Sizes{{"position_keys", {10, 6}}}));
  EXPECT_EQ(sizes_of_parameters(KernelRegression()), (Sizes{{"log_bandwidth", {}}}));
  const ContentLocationAttention both(ContentLocationAttentionOptions{.size = 6});
  EXPECT_EQ(sizes_of_parameters(both), (Sizes{{"hidden_projection.weight", {6, 6}},
                                              {"centre_projection.weight", {1, 6}},
                                              {"window_projection.weight", {1, 6}}}));
  const LocationSensitiveAttention sensitive(LocationSensitiveAttentionOptions{
      .query_size = 6, .key_size = 5, .size = 9, .filters = 2, .width = 3});
  EXPECT_EQ(sizes_of_parameters(sensitive), (Sizes{{"score_weight", {1, 9}},
                                                   {"query_projection.weight", {9, 6}},
                                                   {"query_projection.bias", {9}},
                                                   {"key_projection.weight", {9, 5}},
                                                   {"location_convolution.weight", {2, 1, 3}},
                                                   {"location_projection.weight", {9, 2}}}));
}

TEST(Scores, ModulesPrintTheirOptions) {
  EXPECT_EQ(printed(DotAttention()), "heed::nn::DotAttention(scaled=true)");
  EXPECT_EQ(printed(AdditiveAttention(
                AdditiveAttentionOptions{.query_size = 6, .key_size = 5, .size = 9})),
            "heed::nn::AdditiveAttention(query_size=6, key_size=5, size=9)");
  EXPECT_EQ(printed(CosineAttention()),
            "heed::nn::CosineAttention(initial_scale=10, max_scale=100)");
  EXPECT_EQ(printed(KernelRegression(KernelRegressionOptions{.bandwidth = 0.5})),
            "heed::nn::KernelRegression(bandwidth=0.5)");
}

TEST(Scores, ErrorsSayWhatWasExpected) {
  const at::Tensor x = at::zeros({2, 3, 4});
  GeneralAttention general(GeneralAttentionOptions{.query_size = 6, .key_size = 5});
  EXPECT_EQ(error_of([&] { general->keys(x); }),
            "[GeneralAttention] memory: expected [B,S,key_size] = [*, *, 5], got [2, 3, 4]");
  AdditiveAttention additive(AdditiveAttentionOptions{.query_size = 6, .key_size = 5, .size = 4});
  EXPECT_EQ(error_of([&] { additive(x, x, x); }),
            "[AdditiveAttention] query: expected [B,T,query_size] = [*, *, 6], got [2, 3, 4]");
  LocationAttention location(LocationAttentionOptions{.query_size = 4, .max_length = 2});
  EXPECT_EQ(error_of([&] { location(x, x); }),
            "[LocationAttention] values: expected [B,S,Dv] with S <= max_length = 2, got "
            "[2, 3, 4]");
  LocationSensitiveAttention sensitive(
      LocationSensitiveAttentionOptions{.query_size = 4, .key_size = 4, .size = 4});
  EXPECT_EQ(error_of([&] { sensitive(x, x, x); }),
            "[LocationSensitiveAttention] query: expected one step, [B,1,query_size], got "
            "[2, 3, 4]");
  EXPECT_EQ(error_of([] {
              LocationSensitiveAttention(LocationSensitiveAttentionOptions{
                  .query_size = 4, .key_size = 4, .size = 4, .width = 4});
            }),
            "[LocationSensitiveAttention] width: expected an odd number, got 4");
  EXPECT_EQ(error_of([] { KernelRegression(KernelRegressionOptions{.bandwidth = 0}); }),
            "[KernelRegression] bandwidth: expected a positive number, got 0");
  EXPECT_EQ(error_of([] { CosineAttention(CosineAttentionOptions{.initial_scale = 200}); }),
            "[CosineAttention] initial_scale: expected a number in (0, max_scale = 100], got 200");
  ContentLocationAttention both(ContentLocationAttentionOptions{.size = 6});
  EXPECT_EQ(error_of([&] { both(x, x, x); }),
            "[ContentLocationAttention] query: expected [B,T,size] = [*, *, 6], got [2, 3, 4]");
}

}  // namespace
}  // namespace heed::nn
