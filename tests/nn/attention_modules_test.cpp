// Each attention module against its plain formula, outputs and gradients.
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "heed/nn/additive_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/multi_head_attention.h"

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

void expect_close(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_TRUE(actual.allclose(expected, 1e-4, 1e-5))
      << (actual - expected).abs().max().item<double>();
}

// Outputs, weights and every gradient of the module's must be those of the formula.
void expect_same(const AttentionOutput& actual, const at::Tensor& weights, const at::Tensor& output,
                 const std::vector<at::Tensor>& inputs) {
  expect_close(actual.output, output);
  expect_close(actual.weights, weights.detach());
  EXPECT_FALSE(actual.weights.requires_grad());
  const at::Tensor direction = at::randn(output.sizes());
  const auto gradients = [&](const at::Tensor& y) {
    return torch::autograd::grad({(y * direction).sum()}, inputs);
  };
  const auto expected = gradients(output), got = gradients(actual.output);
  for (size_t i = 0; i < inputs.size(); ++i) expect_close(got[i], expected[i]);
}

TEST(DotAttention, IsTheSoftmaxOfProducts) {
  at::manual_seed(1);
  const at::Tensor q = random({B, T, 6}), k = random({B, S, 6}), v = random({B, S, 4});
  for (const bool scaled : {true, false}) {
    DotAttention module(DotAttentionOptions{.scaled = scaled});
    const at::Tensor scores = at::bmm(q, k.transpose(1, 2)) * (scaled ? 1 / std::sqrt(6.0) : 1.0);
    const at::Tensor p = masked_softmax(scores);
    expect_same(module(q, k, v, lengths(), Weights::kReturn), p, at::bmm(p, v), {q, k, v});
  }
}

TEST(DotAttention, GivesNoWeightsUnlessAsked) {
  DotAttention module;
  const at::Tensor x = at::randn({1, 2, 4});
  EXPECT_FALSE(module(x, x, x).weights.defined());
}

TEST(GeneralAttention, PutsAMatrixBetweenQueryAndKey) {
  at::manual_seed(2);
  const at::Tensor q = random({B, T, 6}), memory = random({B, S, 5}), v = random({B, S, 4});
  GeneralAttention module(GeneralAttentionOptions{.query_size = 6, .key_size = 5});
  const at::Tensor W = module->named_parameters()["key_projection.weight"];  // [6,5]
  const at::Tensor p = masked_softmax(at::bmm(at::matmul(q, W), memory.transpose(1, 2)));
  expect_same(module(q, module->keys(memory), v, lengths(), Weights::kReturn), p, at::bmm(p, v),
              {q, memory, v, W});
}

TEST(AdditiveAttention, IsTheMlpScore) {
  at::manual_seed(3);
  for (const int64_t queries : {int64_t{1}, T, int64_t{20}}) {
    const at::Tensor q = random({B, queries, 6}), memory = random({B, S, 5}), v = random({B, S, 4});
    AdditiveAttention module(AdditiveAttentionOptions{.query_size = 6, .key_size = 5, .size = 9});
    auto parameters = module->named_parameters();
    const at::Tensor W = parameters["query_projection.weight"];
    const at::Tensor bias = parameters["query_projection.bias"];
    const at::Tensor U = parameters["key_projection.weight"];
    const at::Tensor w = parameters["score_weight"];  // [1,9]
    const at::Tensor hidden = at::tanh(at::linear(q, W, bias).unsqueeze(2) +
                                       at::linear(memory, U).unsqueeze(1));  // [B,T,S,9]
    const at::Tensor p = masked_softmax(at::matmul(hidden, w.squeeze(0)));
    expect_same(module(q, module->keys(memory), v, lengths(), Weights::kReturn), p, at::bmm(p, v),
                {q, memory, v, W, bias, U, w});
  }
}

TEST(MultiHeadAttention, IsOneSoftmaxAHead) {
  at::manual_seed(4);
  for (const int64_t kv_heads : {4, 2, 1}) {
    MultiHeadAttention module(MultiHeadAttentionOptions{
        .embed_size = 8, .heads = 4, .kv_heads = kv_heads, .key_size = 6});
    const at::Tensor query = random({B, T, 8}), key = random({B, S, 6}), value = random({B, S, 8});
    auto p = module->named_parameters();
    const auto project = [&](const std::string& name, const at::Tensor& x) {
      return at::linear(x, p[name + "_projection.weight"], p[name + "_projection.bias"]);
    };
    const at::Tensor q = project("query", query), k = project("key", key),
                     v = project("value", value);
    std::vector<at::Tensor> mixed, weights;
    for (int64_t h = 0; h < 4; ++h) {
      const int64_t shared = h / (4 / kv_heads);  // the key head that this query head reads
      const at::Tensor k_h = k.narrow(2, 2 * shared, 2), v_h = v.narrow(2, 2 * shared, 2);
      weights.push_back(
          masked_softmax(at::bmm(q.narrow(2, 2 * h, 2), k_h.transpose(1, 2)) / std::sqrt(2.0)));
      mixed.push_back(at::bmm(weights.back(), v_h));
    }
    const at::Tensor output = project("output", at::cat(mixed, 2));
    expect_same(module(query, key, value, lengths(), Causal::kNone, Weights::kReturn),
                at::stack(weights, 1), output,
                {query, key, value, p["query_projection.weight"], p["key_projection.bias"],
                 p["value_projection.weight"], p["output_projection.weight"]});
  }
}

TEST(MultiHeadAttention, CausalSelfAttentionSeesNothingAhead) {
  at::manual_seed(5);
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = 8, .heads = 2});
  at::Tensor x = at::randn({1, 6, 8});
  const at::Tensor before = module(x, x, x, at::Tensor(), Causal::kTopLeft).output;
  x = x.clone();
  x.narrow(1, 4, 2).fill_(100);
  const at::Tensor after = module(x, x, x, at::Tensor(), Causal::kTopLeft).output;
  EXPECT_TRUE(before.narrow(1, 0, 4).equal(after.narrow(1, 0, 4)));
  EXPECT_FALSE(before.narrow(1, 4, 2).equal(after.narrow(1, 4, 2)));
}

TEST(MultiHeadAttention, RefusesHeadsThatDoNotDivide) {
  EXPECT_THROW(MultiHeadAttention(MultiHeadAttentionOptions{.embed_size = 10, .heads = 4}),
               c10::Error);
  EXPECT_THROW(
      MultiHeadAttention(MultiHeadAttentionOptions{.embed_size = 8, .heads = 4, .kv_heads = 3}),
      c10::Error);
}

}  // namespace
}  // namespace heed::nn
