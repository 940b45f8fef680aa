// Mechanisms of reach, sparsity and linear time against their plain formulas: outputs, weights,
// every gradient, lengths and refusals. The same in Python, and published implementations:
// tests/python/test_nn_reach.py.
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <string>
#include <vector>

#include "heed/nn/adaptive_span_attention.h"
#include "heed/nn/attention_pooling.h"
#include "heed/nn/block_attention.h"
#include "heed/nn/coverage_attention.h"
#include "heed/nn/document_attention.h"
#include "heed/nn/dynamic_sparse_attention.h"
#include "heed/nn/hierarchical_attention.h"
#include "heed/nn/linear_attention.h"
#include "heed/nn/local_attention.h"
#include "heed/nn/local_predictive_attention.h"
#include "heed/nn/longformer_attention.h"
#include "heed/nn/random_feature_attention.h"
#include "heed/nn/sentinel_attention.h"
#include "heed/nn/set_attention.h"
#include "heed/nn/top_k_attention.h"
#include "tests/nn/testing.h"

namespace heed::nn {
namespace {

constexpr int64_t B = 2, H = 3, T = 37, D = 8, Dv = 5;

at::Tensor key_counts() { return at::tensor({T, int64_t{19}}, at::kLong); }  // [B]
at::Tensor inside() { return at::arange(T).lt(key_counts().view({B, 1})).view({B, 1, 1, T}); }
at::Tensor query_places() { return at::arange(T).view({T, 1}); }
at::Tensor key_places() { return at::arange(T); }
at::Tensor distances() { return (query_places() - key_places()).abs(); }  // [T,T]
at::Tensor not_after() { return key_places().le(query_places()); }        // [T,T]

at::Tensor leaf(at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); }
at::Tensor split(const at::Tensor& x) { return x.unflatten(-1, {H, -1}).transpose(1, 2); }
at::Tensor join(const at::Tensor& x) { return x.transpose(1, 2).flatten(2); }

// Weights of the keys where mask is true; a row without any gets 0.
at::Tensor softmax_where(const at::Tensor& mask, const at::Tensor& score) {
  const at::Tensor seen = mask.expand(score.sizes());
  return at::softmax(score.masked_fill(~seen, -1e30), -1).masked_fill(~seen, 0);
}

at::Tensor scaled_products(const at::Tensor& q, const at::Tensor& k) {
  return at::matmul(split(q), split(k).transpose(-2, -1)) / std::sqrt(static_cast<double>(D));
}

// The output and the gradient of every leaf and parameter are the formula's.
void expect_formula(torch::nn::Module& module, const at::Tensor& actual, const at::Tensor& expected,
                    std::vector<at::Tensor> wanted) {
  expect_near(actual, expected);
  for (const at::Tensor& parameter : module.parameters()) wanted.push_back(parameter);
  expect_same_gradients({actual}, {expected}, wanted);
}

struct Inputs {
  at::Tensor q = leaf({B, T, H*D}), k = leaf({B, T, H*D}), v = leaf({B, T, H*Dv});
};

// A module that is the softmax of scaled products over the keys where mask [.,.,T,S].
template <class Module, class Call>
void expect_masked(Module& module, const at::Tensor& mask, const Call& call) {
  const Inputs x;
  const at::Tensor p = softmax_where(mask & inside(), scaled_products(x.q, x.k));
  const AttentionOutput result = call(x, Weights::kReturn);
  expect_near(result.weights, p.detach(), "weights");
  EXPECT_FALSE(result.weights.requires_grad());
  EXPECT_FALSE(call(x, Weights::kNone).weights.defined());
  expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
}

template <class Module>
void expect_masked(Module& module, const at::Tensor& mask) {
  expect_masked(module, mask, [&](const Inputs& x, Weights weights) {
    return module(x.q, x.k, x.v, key_counts(), weights);
  });
}

template <class Module>
void normal_parameters(Module& module, double deviation) {
  for (at::Tensor& parameter : module->parameters()) {
    torch::nn::init::normal_(parameter, 0, deviation);
  }
}

TEST(LocalAttention, IsABand) {
  at::manual_seed(1);
  const at::Tensor near = distances().le(4);
  LocalAttention both(LocalAttentionOptions{.window = 4, .heads = H});
  expect_masked(both, near);
  LocalAttention back(LocalAttentionOptions{.window = 4, .heads = H, .causal = Causal::kTopLeft});
  expect_masked(back, near & not_after());
  EXPECT_EQ(printed(back), "heed::nn::LocalAttention(window=4, heads=3, causal=top_left)");
}

TEST(LocalPredictiveAttention, LooksAroundItsCentre) {
  at::manual_seed(2);
  for (const bool normalized : {true, false}) {
    LocalPredictiveAttention module(LocalPredictiveAttentionOptions{
        .query_size = D, .size = 7, .window = 5, .normalized = normalized});
    normal_parameters(module, 1);  // centres all over the place
    auto parameters = module->named_parameters();
    const at::Tensor q = leaf({B, T, D}), k = leaf({B, T, D}), v = leaf({B, T, Dv});
    const at::Tensor hidden = at::tanh(at::linear(q, parameters["query_projection.weight"]));
    const at::Tensor centre =
        key_counts().unsqueeze(1) *
        at::sigmoid(at::matmul(hidden, parameters["score_weight"].squeeze(0)));  // [B,T]
    const at::Tensor away = key_places() - centre.unsqueeze(-1);                 // [B,T,S]
    const at::Tensor mask = away.abs().le(5) & inside().squeeze(1);
    const at::Tensor log_gaussian = -away.square() / (2 * 2.5 * 2.5);
    const at::Tensor score = at::bmm(q, k.transpose(1, 2));
    const at::Tensor p = normalized ? softmax_where(mask, score + log_gaussian)
                                    : softmax_where(mask, score) * log_gaussian.exp();
    const AttentionOutput result = module(q, k, v, key_counts(), Weights::kReturn);
    expect_near(result.weights, p.detach(), "weights");
    expect_formula(*module, result.output, at::bmm(p, v), {q, k, v});
  }
}

TEST(LocalPredictiveAttention, PlacesAreFinerThanBfloat16) {
  at::manual_seed(2);
  LocalPredictiveAttention module(
      LocalPredictiveAttentionOptions{.query_size = D, .size = 7, .window = 2});
  module->to(at::kBFloat16);
  const at::Tensor q = at::randn({1, 50, D}, at::kBFloat16);
  const at::Tensor centres = module->centres(q, at::tensor({int64_t{4000}}));
  EXPECT_EQ(centres.scalar_type(), at::kFloat);
  EXPECT_EQ(module(q, q, q).output.scalar_type(), at::kBFloat16);
  // Even a place in bfloat16 near 2000 is a multiple of 8.
  EXPECT_GT((centres - centres.to(at::kBFloat16)).abs().max().item<float>(), 1);
}

TEST(LongformerAttention, IsTwoAttentionsWhoseQueriesAreDisjoint) {
  at::manual_seed(3);
  LongformerAttention module(
      LongformerAttentionOptions{.embed_size = H * D, .heads = H, .window = 3});
  normal_parameters(module, 0.3);
  auto parameters = module->named_parameters();
  const at::Tensor x = leaf({B, T, H * D});
  const auto project = [&](const std::string& name, const at::Tensor& rows) {
    return at::linear(rows, parameters[name + "_projection.weight"],
                      parameters[name + "_projection.bias"]);
  };
  const at::Tensor is_global = at::rand({B, T}).lt(0.1);
  const at::Tensor of_query = is_global.view({B, 1, T, 1}), of_key = is_global.view({B, 1, 1, T});
  const auto attend = [&](const std::string& prefix, const at::Tensor& mask) {
    const at::Tensor score =
        scaled_products(project(prefix + "query", x), project(prefix + "key", x));
    const at::Tensor p = softmax_where(mask & inside(), score);
    return std::pair(p, join(at::matmul(p, split(project(prefix + "value", x)))));
  };
  const auto [near_p, near] = attend("", ~of_query & (distances().le(3) | of_key));
  const auto [global_p, global] = attend("global_", of_query.expand({B, 1, T, T}));
  const AttentionOutput result = module(x, is_global, key_counts(), Weights::kReturn);
  expect_near(result.weights, (near_p + global_p).detach(), "weights");
  expect_formula(*module, result.output, project("output", near + global), {x});
  // Without global tokens, the window is all there is.
  const auto [band, mixed] = attend("", distances().le(3).view({1, 1, T, T}));
  expect_near(module(x, at::Tensor(), key_counts()).output, project("output", mixed), "window");
  EXPECT_THROW(module(x, at::zeros({B, T})), c10::Error);
}

TEST(BlockAttention, SeesBlocksWhole) {
  at::manual_seed(4);
  for (const int64_t random_blocks : {0, 2}) {
    for (const Causal causal : {Causal::kNone, Causal::kTopLeft}) {
      BlockAttention module(BlockAttentionOptions{.block_size = 6,
                                                  .heads = H,
                                                  .global_blocks = 1,
                                                  .random_blocks = random_blocks,
                                                  .seed = 3,
                                                  .causal = causal});
      const at::Tensor i = query_places().div(6, "floor"), j = key_places().div(6, "floor");
      const at::Tensor chosen = module->drawn(T, T).index_select(1, i.flatten());  // [H,T,random]
      at::Tensor mask = ((i - j).abs().le(1) | i.lt(1) | j.lt(1)).view({1, 1, T, T});
      mask = mask | chosen.unsqueeze(2).eq(j.view({T, 1})).any(-1).unsqueeze(0);  // [1,H,T,S]
      if (causal == Causal::kTopLeft) mask = mask & not_after();
      expect_masked(module, mask);
    }
  }
}

TEST(BlockAttention, DrawsWhatPythonDraws) {
  BlockAttention module(
      BlockAttentionOptions{.block_size = 6, .heads = 1, .random_blocks = 2, .seed = 3});
  EXPECT_TRUE(
      module->drawn(18, 60).equal(at::tensor({6, 8, 7, 7, 0, 0}, at::kLong).view({1, 3, 2})));
}

// The last queries see what they see among all: from the corner that decoding counts from.
TEST(BlockAttention, PlacesCountFromCausalsCorner) {
  at::manual_seed(4);
  BlockAttention module(BlockAttentionOptions{.block_size = 4,
                                              .heads = H,
                                              .neighbours = 0,
                                              .global_blocks = 1,
                                              .random_blocks = 1,
                                              .causal = Causal::kBottomRight});
  const Inputs x;
  const auto weights = [&](const at::Tensor& query, const at::Tensor& lengths) {
    return module(query, x.k, x.v, lengths, Weights::kReturn).weights;
  };
  const at::Tensor last = x.q.narrow(1, T - 3, 3);
  expect_near(weights(last, {}), weights(x.q, {}).narrow(2, T - 3, 3));
  const at::Tensor of_19 = weights(last, key_counts())[1];  // [H,3,T]
  EXPECT_EQ((of_19[0][2] > 0).nonzero().max().item<int64_t>(), 18);
  EXPECT_EQ((of_19[0][1].narrow(0, 16, 3) > 0).sum().item<int64_t>(), 2);  // of block 4, up to 17
  EXPECT_EQ(weights(x.q, key_counts())[1].narrow(1, 0, T - 19).abs().max().item<float>(), 0);
}

TEST(DocumentAttention, DocumentsDoNotSeeEachOther) {
  at::manual_seed(5);
  const Documents documents{
      .of_queries = at::stack({key_places().div(10, "floor"), key_places().remainder(3)})};
  const at::Tensor same =
      documents.of_queries.view({B, 1, T, 1}).eq(documents.of_queries.view({B, 1, 1, T}));
  for (const Causal causal : {Causal::kNone, Causal::kTopLeft}) {
    DocumentAttention module(DocumentAttentionOptions{.heads = H, .causal = causal});
    const at::Tensor mask = causal == Causal::kNone ? same : same & not_after();
    expect_masked(module, mask, [&](const Inputs& x, Weights weights) {
      return module(x.q, x.k, x.v, documents, key_counts(), weights);
    });
    const Inputs x;
    EXPECT_THROW(module(x.q, x.k, x.v, Documents{}), c10::Error);
    EXPECT_THROW(module(x.q, x.k, x.v, Documents{.of_queries = at::zeros({B, T})}), c10::Error);
  }
}

TEST(AdaptiveSpanAttention, LearnsItsReach) {
  at::manual_seed(6);
  for (const bool causal : {true, false}) {
    AdaptiveSpanAttention module(
        AdaptiveSpanAttentionOptions{.max_span = 20, .heads = H, .ramp = 6, .causal = causal});
    at::Tensor span = module->named_parameters()["span"];
    EXPECT_EQ(span.abs().max().item<float>(), 0);
    span.data().copy_(at::tensor({0.02, 0.31, 0.77}));
    const at::Tensor soft =
        ((6 + 20 * span.view({H, 1, 1}) - distances()) / 6).clamp(0, 1);  // [H,T,S]
    const Inputs x;
    const at::Tensor mask = causal ? inside() & not_after() : inside();
    const at::Tensor raw = (soft * scaled_products(x.q, x.k).exp()).masked_fill(~mask, 0);
    const at::Tensor total = raw.sum(-1, true);
    const at::Tensor p = raw / total.masked_fill(total.eq(0), 1);
    const AttentionOutput result = module(x.q, x.k, x.v, key_counts(), Weights::kReturn);
    expect_near(result.weights, p.detach(), "weights");
    expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
    expect_near(module->span_loss(), 2e-6 * 20 * span.mean(), "loss");
    span.data().copy_(at::tensor({-1.0, 0.5, 2.0}));
    module->clamp_span();
    EXPECT_TRUE(span.equal(at::tensor({0.0f, 0.5f, 1.0f})));
  }
}

TEST(DynamicSparseAttention, IsTheUnionOfItsBuckets) {
  at::manual_seed(7);
  for (const int64_t rounds : {1, 3}) {
    for (const bool causal : {false, true}) {
      DynamicSparseAttention module(DynamicSparseAttentionOptions{
          .head_size = D, .buckets = 6, .rounds = rounds, .heads = H, .causal = causal});
      const Inputs x;
      at::Tensor met = at::zeros({B, H, T, T}, at::kBool);
      for (const at::Tensor& rotation : module->named_buffers()["rotations"].unbind(0)) {
        const auto bucket = [&](const at::Tensor& rows) {
          const at::Tensor y = at::matmul(split(rows), rotation);
          return at::cat({y, -y}, -1).argmax(-1);  // [B,H,T]
        };
        met = met | bucket(x.q).unsqueeze(-1).eq(bucket(x.k).unsqueeze(-2));
      }
      at::Tensor mask = met & inside();
      if (causal) mask = mask & not_after();
      const at::Tensor p = softmax_where(mask, scaled_products(x.q, x.k));
      const AttentionOutput result = module(x.q, x.k, x.v, key_counts(), Weights::kReturn);
      expect_near(result.weights, p.detach(), "weights");
      expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
    }
  }
}

TEST(DynamicSparseAttention, LongRowsAreSortedByBucket) {
  at::manual_seed(7);
  const int64_t n = 1100;  // more than are swept with two rounds
  for (const bool causal : {false, true}) {
    DynamicSparseAttention module(
        DynamicSparseAttentionOptions{.head_size = 4, .rounds = 2, .causal = causal});
    const at::Tensor q = leaf({1, n, 4}), k = leaf({1, n, 4}), v = leaf({1, n, 3});
    const at::Tensor of_q = module->buckets_of(q.unsqueeze(1)),
                     of_k = module->buckets_of(k.unsqueeze(1));
    at::Tensor mask = of_q.unsqueeze(-1).eq(of_k.unsqueeze(-2)).any(1).squeeze(1);  // [1,T,S]
    mask = mask & at::arange(n).lt(1000);
    if (causal) mask = mask.tril();
    const at::Tensor p = softmax_where(mask, at::bmm(q, k.transpose(1, 2)) / 2.0);
    expect_formula(*module, module(q, k, v, at::tensor({int64_t{1000}})).output, at::bmm(p, v),
                   {q, k, v});
  }
}

TEST(TopKAttention, DropsTheRestEntirelyAndKeepsTies) {
  at::manual_seed(8);
  TopKAttention module(TopKAttentionOptions{.sparsity_factor = 0.2, .heads = H});
  const Inputs x;
  const at::Tensor score = scaled_products(x.q, x.k);
  const at::Tensor smallest = std::get<0>(score.topk(7)).narrow(-1, 6, 1);
  const at::Tensor p = softmax_where(score.ge(smallest), score);
  const AttentionOutput result = module(x.q, x.k, x.v, at::Tensor(), Weights::kReturn);
  expect_near(result.weights, p.detach(), "weights");
  EXPECT_EQ((result.weights > 0).sum().item<int64_t>(), B * H * T * 7);
  expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
  TopKAttention least(TopKAttentionOptions{.sparsity_factor = 0.001, .heads = H});
  const at::Tensor ones = least(x.q, x.k, x.v, at::Tensor(), Weights::kReturn).weights;
  EXPECT_EQ((ones > 0).sum().item<int64_t>(), B * H * T);
  TopKAttention first(TopKAttentionOptions{.sparsity_factor = 0.1});
  const at::Tensor keys = at::tensor({0.0, 2.0, 1.0, 2.0, 2.0, 1.0}).to(at::kFloat).view({1, 6, 1});
  const at::Tensor tied =
      first(at::ones({1, 1, 1}), keys, keys, at::Tensor(), Weights::kReturn).weights.flatten();
  expect_near(tied, at::tensor({0.0f, 1.0f, 0.0f, 1.0f, 1.0f, 0.0f}) / 3, "ties");
}

TEST(LinearAttention, IsAProductOfFeatures) {
  at::manual_seed(9);
  for (const bool causal : {false, true}) {
    for (const FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
      LinearAttention module(
          LinearAttentionOptions{.heads = H, .causal = causal, .feature_map = map});
      const auto phi = [&](const at::Tensor& x) {
        const at::Tensor y = split(x);
        return map == FeatureMap::kElu ? at::elu(y) + 1
                                       : (map == FeatureMap::kRelu ? y.relu() : y.exp());
      };
      const Inputs x;
      const at::Tensor mask = causal ? inside() & not_after() : inside();
      const at::Tensor raw = at::matmul(phi(x.q), phi(x.k).transpose(-2, -1)).masked_fill(~mask, 0);
      const at::Tensor p = raw / raw.sum(-1, true).clamp_min(1e-30);
      const AttentionOutput result = module(x.q, x.k, x.v, key_counts(), Weights::kReturn);
      expect_near(result.weights, p.detach(), "weights");
      expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
      const at::Tensor empty = module(x.q, x.k, x.v, at::tensor({int64_t{0}, T})).output[0];
      EXPECT_EQ(empty.abs().max().item<float>(), 0);
    }
  }
}

TEST(RandomFeatureAttention, FeaturesAreThoseOfThePaper) {
  at::manual_seed(10);
  for (const bool causal : {false, true}) {
    RandomFeatureAttention module(RandomFeatureAttentionOptions{
        .head_size = D, .features = 20, .heads = H, .causal = causal});
    const at::Tensor projection = module->named_buffers()["projection"];  // [20,D]
    const auto phi = [&](const at::Tensor& x) {
      const at::Tensor y = split(x) / std::pow(D, 0.25);
      return (at::matmul(y, projection.t()) - y.square().sum(-1, true) / 2).exp();
    };
    const Inputs x;
    const at::Tensor mask = causal ? inside() & not_after() : inside();
    const at::Tensor raw = at::matmul(phi(x.q), phi(x.k).transpose(-2, -1)).masked_fill(~mask, 0);
    const at::Tensor p = raw / raw.sum(-1, true);
    const AttentionOutput result = module(x.q, x.k, x.v, key_counts(), Weights::kReturn);
    expect_near(result.weights, p.detach(), "weights");
    expect_formula(*module, result.output, join(at::matmul(p, split(x.v))), {x.q, x.k, x.v});
    const at::Tensor rows = projection.narrow(0, D, D);
    const at::Tensor directions = rows / rows.norm(2, {1}, true);
    expect_near(at::matmul(directions, directions.t()), at::eye(D), "orthogonal rows");
  }
}

TEST(RandomFeatureAttention, DirectionsLeanToNoSide) {
  at::manual_seed(10);
  RandomFeatureAttention module(
      RandomFeatureAttentionOptions{.head_size = D, .features = 2000 * D});
  const at::Tensor projection = module->named_buffers()["projection"];
  const at::Tensor mean = projection.view({2000, D, D}).mean(0);  // of each row of a block
  EXPECT_LT(mean.abs().max().item<float>(), 0.12);                // 5 deviations of 1 / sqrt(2000)
}

// Where features are beyond any float, and whatever padding holds.
TEST(RandomFeatureAttention, WeightsAreThoseOfTheOutput) {
  at::manual_seed(11);
  RandomFeatureAttention random(
      RandomFeatureAttentionOptions{.head_size = D, .features = 20, .heads = H});
  LinearAttention powers(LinearAttentionOptions{.heads = H, .feature_map = FeatureMap::kExp});
  const at::Tensor x = 30 * at::randn({B, T, H * D});
  at::Tensor padded = x.clone();
  padded[1].narrow(0, 19, T - 19).fill_(std::nan(""));
  padded.requires_grad_(true);
  const auto expect_agreement = [&](auto& module) {
    const AttentionOutput result = module(x, padded, padded, key_counts(), Weights::kReturn);
    expect_near(join(at::matmul(result.weights, split(x))), result.output, "output", 1e-3);
    const at::Tensor gradient = torch::autograd::grad({result.output.sum()}, {padded})[0];
    EXPECT_FALSE(gradient.isnan().any().item<bool>());
  };
  expect_agreement(random);
  expect_agreement(powers);
}

TEST(CoverageAttention, AddsUpWhatHasBeenLookedAt) {
  at::manual_seed(11);
  CoverageAttention module(CoverageAttentionOptions{.query_size = 6, .key_size = 5, .size = 9});
  normal_parameters(module, 1);
  auto parameters = module->named_parameters();
  const int64_t steps = 4;
  const at::Tensor query = leaf({B, steps, 6}), memory = leaf({B, T, 5}), v = leaf({B, T, Dv});
  const CoverageOutput result = module(query, module->keys(memory), v, key_counts());
  const at::Tensor projected =
      at::linear(query, parameters["query_projection.weight"], parameters["query_projection.bias"]);
  at::Tensor coverage = at::zeros({B, T});
  std::vector<at::Tensor> weights, losses;
  for (int64_t t = 0; t < steps; ++t) {
    const at::Tensor hidden = at::tanh(
        projected.narrow(1, t, 1) + at::linear(memory, parameters["key_projection.weight"]) +
        coverage.unsqueeze(-1) * parameters["coverage_weight"]);  // [B,S,9]
    weights.push_back(softmax_where(inside().view({B, T}),
                                    at::matmul(hidden, parameters["score_weight"].squeeze(0))));
    losses.push_back(at::minimum(weights.back(), coverage).sum(-1));
    coverage = coverage + weights.back();
  }
  expect_near(result.weights, at::stack(weights, 1), "weights");
  expect_near(result.coverage, coverage, "coverage");
  const auto with_loss = [](const at::Tensor& output, const at::Tensor& loss) {
    return at::cat({output, loss.unsqueeze(-1)}, -1);
  };
  expect_formula(*module, with_loss(result.output, result.loss),
                 with_loss(at::bmm(at::stack(weights, 1), v), at::stack(losses, 1)),
                 {query, memory, v});
  // In two calls, the second with the coverage that the first left.
  const at::Tensor keys = module->keys(memory);
  const CoverageOutput first = module(query.narrow(1, 0, 2), keys, v, key_counts());
  const CoverageOutput second =
      module(query.narrow(1, 2, 2), keys, v, key_counts(), first.coverage);
  expect_near(second.output, result.output.narrow(1, 2, 2), "second call");
}

TEST(SentinelAttention, TheSentinelIsOneMoreKeyWithAValueOfItsOwn) {
  at::manual_seed(12);
  SentinelAttention module(
      SentinelAttentionOptions{.query_size = 6, .key_size = 5, .value_size = Dv, .size = 9});
  auto parameters = module->named_parameters();
  const at::Tensor query = leaf({B, T, 6}), memory = leaf({B, T, 5}), v = leaf({B, T, Dv}),
                   sentinel = leaf({B, T, Dv});
  const SentinelOutput result =
      module(query, module->keys(memory), v, sentinel, key_counts(), Weights::kReturn);
  const at::Tensor queries = at::linear(query, parameters["query_projection.weight"]);
  const at::Tensor score_weight = parameters["score_weight"].squeeze(0);
  const at::Tensor of_keys =
      at::matmul(at::tanh(queries.unsqueeze(2) +
                          at::linear(memory, parameters["key_projection.weight"]).unsqueeze(1)),
                 score_weight);  // [B,T,S]
  const at::Tensor own =
      at::matmul(at::tanh(queries + at::linear(sentinel, parameters["sentinel_projection.weight"])),
                 score_weight);  // [B,T]
  const at::Tensor mask = at::cat({inside().squeeze(1), at::ones({B, 1, 1}, at::kBool)}, -1);
  const at::Tensor p = softmax_where(mask, at::cat({of_keys, own.unsqueeze(-1)}, -1));
  const at::Tensor keys_p = p.narrow(-1, 0, T), beta = p.narrow(-1, T, 1);
  expect_near(result.weights, keys_p.detach(), "weights");
  expect_near(result.sentinel_weight, beta.squeeze(-1), "beta");
  expect_formula(*module, result.output, at::bmm(keys_p, v) + beta * sentinel,
                 {query, memory, v, sentinel});

  VisualSentinel gate(4, Dv);
  auto of_gate = gate->named_parameters();
  const at::Tensor x = leaf({B, T, 4}), before = leaf({B, T, Dv}), cell = leaf({B, T, Dv});
  const at::Tensor expected = at::sigmoid(at::linear(x, of_gate["input_projection.weight"],
                                                     of_gate["input_projection.bias"]) +
                                          at::linear(before, of_gate["hidden_projection.weight"])) *
                              at::tanh(cell);
  expect_formula(*gate, gate(x, before, cell), expected, {x, before, cell});
}

TEST(AttentionPooling, AsksWithLearntQueries) {
  at::manual_seed(13);
  for (const int64_t hidden_size : {0, 7}) {
    AttentionPooling module(
        AttentionPoolingOptions{.embed_size = D, .queries = 3, .hidden_size = hidden_size});
    auto parameters = module->named_parameters();
    const at::Tensor x = leaf({B, T, D});
    const at::Tensor keys = hidden_size == 0
                                ? x
                                : at::tanh(at::linear(x, parameters["projection.weight"],
                                                      parameters["projection.bias"]));
    const at::Tensor p =
        softmax_where(inside().squeeze(1), at::matmul(parameters["query"], keys.transpose(1, 2)));
    const AttentionOutput result = module(x, key_counts(), Weights::kReturn);
    expect_near(result.weights, p.detach(), "weights");
    expect_formula(*module, result.output, at::bmm(p, x), {x});
  }
}

TEST(HierarchicalAttention, PoolsWordsThenSentences) {
  at::manual_seed(14);
  HierarchicalAttention module(HierarchicalAttentionOptions{.embed_size = D, .hidden_size = 6});
  auto parameters = module->named_parameters();
  const at::Tensor x = leaf({B, 3, 5, D});
  const at::Tensor word_lengths = at::tensor({5, 2, 3, 4, 0, 0}, at::kLong).view({B, 3});
  const at::Tensor sentence_lengths = at::tensor({3, 1}, at::kLong);
  const auto pool = [&](const std::string& level, const at::Tensor& rows) {  // rows [S,E]
    const at::Tensor hidden = at::tanh(at::linear(rows, parameters[level + ".projection.weight"],
                                                  parameters[level + ".projection.bias"]));
    const at::Tensor score = at::matmul(hidden, parameters[level + ".query"].squeeze(0));
    return at::matmul(at::softmax(score, -1), rows);
  };
  std::vector<at::Tensor> documents;
  for (int64_t b = 0; b < B; ++b) {
    std::vector<at::Tensor> sentences;
    for (int64_t n = 0; n < sentence_lengths[b].item<int64_t>(); ++n) {
      const int64_t words = word_lengths[b][n].item<int64_t>();
      sentences.push_back(pool("word_attention", x[b][n].narrow(0, 0, words)));
    }
    documents.push_back(pool("sentence_attention", at::stack(sentences)));
  }
  const HierarchicalOutput result = module(x, word_lengths, sentence_lengths, Weights::kReturn);
  expect_formula(*module, result.output, at::stack(documents), {x});
  expect_near(result.word_weights.sum(-1), word_lengths.gt(0).to(at::kFloat), "sums of words");
  expect_near(result.sentence_weights.sum(-1), at::ones({B}), "sums of sentences");
}

TEST(HierarchicalAttention, PaddingChangesNothingThatItsEncodersRead) {
  at::manual_seed(15);
  HierarchicalAttention module(
      HierarchicalAttentionOptions{.embed_size = D, .hidden_size = 6, .encoder_size = 4});
  const at::Tensor x = at::randn({1, 2, 5, D});
  const at::Tensor word_lengths = at::tensor({3, 2}, at::kLong).view({1, 2});
  const at::Tensor sentence_lengths = at::tensor({2}, at::kLong);
  const at::Tensor output = module(x, word_lengths, sentence_lengths).output;
  EXPECT_EQ(output.sizes(), (std::vector<int64_t>{1, 8}));
  at::Tensor padded = at::randn({1, 4, 9, D});
  padded.narrow(1, 0, 2).narrow(2, 0, 5).copy_(x);
  const at::Tensor more = at::cat({word_lengths, at::zeros({1, 2}, at::kLong)}, 1);
  expect_near(module(padded, more, sentence_lengths).output, output, "output");
}

struct BlockFormula {
  torch::OrderedDict<std::string, at::Tensor> parameters;
  std::string prefix;

  at::Tensor project(const std::string& name, const at::Tensor& x) {
    return at::linear(x, parameters[prefix + name + ".weight"],
                      parameters[prefix + name + ".bias"]);
  }
  at::Tensor norm(const std::string& name, const at::Tensor& x) {
    const at::Tensor centred = x - x.mean(-1, true);
    const at::Tensor deviation = (centred.square().mean(-1, true) + 1e-5).sqrt();
    return centred / deviation * parameters[prefix + name + ".weight"] +
           parameters[prefix + name + ".bias"];
  }
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& y, const at::Tensor& mask) {
    const at::Tensor q = project("query_projection", x), k = project("key_projection", y);
    const at::Tensor score =
        at::matmul(split(q), split(k).transpose(-2, -1)) / std::sqrt(q.size(-1));
    const at::Tensor p = softmax_where(mask, score);
    const at::Tensor mixed = join(at::matmul(p, split(project("value_projection", y))));
    const at::Tensor attended = norm("attention_norm", q + mixed);
    return norm("output_norm", attended + project("feed_forward", attended).relu());
  }
};

TEST(SetAttention, BlocksAreThoseOfThePaper) {
  at::manual_seed(16);
  const int64_t E = 12;
  const at::Tensor x = leaf({B, T, 7}), z = leaf({B, T, E});
  SetAttentionBlock sab(SetAttentionOptions{.embed_size = E, .heads = H, .input_size = 7});
  expect_formula(*sab, sab(x, key_counts()).output,
                 BlockFormula{sab->named_parameters(), "block."}(x, x, inside()), {x});

  InducedSetAttentionBlock isab(SetAttentionOptions{.embed_size = E, .heads = H, .input_size = 7},
                                4);
  auto parameters = isab->named_parameters();
  const at::Tensor gathered =
      BlockFormula{parameters, "gather."}(parameters["points"].expand({B, -1, -1}), x, inside());
  const at::Tensor everywhere = at::ones({1, 1, 1, 4}, at::kBool);
  expect_formula(*isab, isab(x, key_counts()).output,
                 BlockFormula{parameters, "spread."}(x, gathered, everywhere), {x});

  PoolingByMultiheadAttention pma(SetAttentionOptions{.embed_size = E, .heads = H}, 2);
  parameters = pma->named_parameters();
  const at::Tensor y =
      at::linear(z, parameters["feed_forward.weight"], parameters["feed_forward.bias"]).relu();
  expect_formula(
      *pma, pma(z, key_counts()).output,
      BlockFormula{parameters, "block."}(parameters["seeds"].expand({B, -1, -1}), y, inside()),
      {z});
  const at::Tensor shuffled = z.index_select(1, at::randperm(T));
  expect_near(pma(shuffled).output, pma(z).output, "a set has no order");
}

TEST(ReachModules, RefuseOptionsThatMeanNothing) {
  EXPECT_THROW(LocalAttention(LocalAttentionOptions{.window = -1}), c10::Error);
  EXPECT_THROW(LocalAttention(LocalAttentionOptions{.window = 1, .heads = 0}), c10::Error);
  EXPECT_THROW(LocalPredictiveAttention(
                   LocalPredictiveAttentionOptions{.query_size = 2, .size = 2, .window = 0}),
               c10::Error);
  EXPECT_THROW(
      LongformerAttention(LongformerAttentionOptions{.embed_size = 10, .heads = 4, .window = 2}),
      c10::Error);
  EXPECT_THROW(BlockAttention(BlockAttentionOptions{.block_size = 0}), c10::Error);
  EXPECT_THROW(AdaptiveSpanAttention(AdaptiveSpanAttentionOptions{.max_span = 0}), c10::Error);
  EXPECT_THROW(DynamicSparseAttention(DynamicSparseAttentionOptions{.head_size = 4, .buckets = 3}),
               c10::Error);
  EXPECT_THROW(TopKAttention(TopKAttentionOptions{.sparsity_factor = 0}), c10::Error);
  EXPECT_THROW(RandomFeatureAttention(RandomFeatureAttentionOptions{.head_size = 4, .features = 0}),
               c10::Error);
  EXPECT_THROW(AttentionPooling(AttentionPoolingOptions{.embed_size = 4, .queries = 0}),
               c10::Error);
  EXPECT_THROW(
      MultiheadAttentionBlock(MultiheadAttentionBlockOptions{.embed_size = 10, .heads = 4}),
      c10::Error);
  LocalAttention module(LocalAttentionOptions{.window = 2, .heads = 4});
  const at::Tensor x = at::randn({1, 4, 10});
  EXPECT_THROW(module(x, x, x), c10::Error);
}

TEST(ReachModules, DropWeightsInTrainingOnly) {
  LocalAttention module(LocalAttentionOptions{.window = 3, .dropout = 0.5});
  const at::Tensor x = at::randn({1, 20, 4});
  EXPECT_FALSE(module(x, x, x).output.equal(module(x, x, x).output));
  module->eval();
  EXPECT_TRUE(module(x, x, x).output.equal(module(x, x, x).output));
}

}  // namespace
}  // namespace heed::nn
