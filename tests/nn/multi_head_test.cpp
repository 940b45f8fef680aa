// MultiHeadAttention against its formula, with masks, sizes and hooks, and the key-value cache.
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>

#include "heed/nn/multi_head_attention.h"
#include "tests/nn/testing.h"

namespace heed::nn {
namespace {

constexpr int64_t B = 2, T = 5, S = 7, E = 12, H = 4;

at::Tensor random(at::IntArrayRef sizes) { return at::randn(sizes).requires_grad_(true); }

// The formula on [B,H,T,S]; bias is added to the scores, keys where not `seen` are left out.
AttentionOutput plain(MultiHeadAttention& module, const at::Tensor& query, const at::Tensor& memory,
                      int64_t Hkv, double scale, const at::Tensor& bias, const at::Tensor& seen) {
  auto p = module->named_parameters();
  const auto project = [&](const std::string& name, const at::Tensor& x) {
    return at::matmul(x, p[name + "_projection.weight"].t()) + p[name + "_projection.bias"];
  };
  const auto heads = [&](const std::string& name, const at::Tensor& x, int64_t count) {
    const at::Tensor y = project(name, x);
    const at::Tensor split = y.unflatten(2, {count, y.size(2) / count}).transpose(1, 2);
    return split.repeat_interleave(H / count, 1);
  };
  const at::Tensor q = heads("query", query, H), k = heads("key", memory, Hkv),
                   v = heads("value", memory, Hkv);
  const at::Tensor scores = (at::matmul(q, k.transpose(2, 3)) * scale + bias)
                                .masked_fill(~seen, -std::numeric_limits<double>::infinity());
  const at::Tensor weights = at::softmax(scores, -1);
  return {project("output", at::matmul(weights, v).transpose(1, 2).flatten(2)), weights};
}

void expect_same(MultiHeadAttention& module, const AttentionOutput& got,
                 const AttentionOutput& expected, std::vector<at::Tensor> leaves) {
  expect_near(got.output, expected.output);
  expect_near(got.weights, expected.weights.detach());
  for (const at::Tensor& parameter : module->parameters()) leaves.push_back(parameter);
  expect_same_gradients({got.output}, {expected.output}, leaves);
}

const at::Tensor kRows = at::arange(T).unsqueeze(-1), kColumns = at::arange(S);

TEST(MultiHead, IsOneSoftmaxAHead) {
  at::manual_seed(5);
  const at::Tensor counts = at::tensor({7, 3}, at::kLong);
  const at::Tensor seen = kColumns.lt(counts.unsqueeze(1)).view({B, 1, 1, S});
  for (const int64_t kv_heads : {4, 2, 1}) {
    MultiHeadAttention module(MultiHeadAttentionOptions{
        .embed_size = E, .heads = H, .kv_heads = kv_heads, .key_size = 6, .value_size = 6});
    const at::Tensor query = random({B, T, E}), memory = random({B, S, 6});
    expect_same(module, module(query, memory, memory, counts, Causal::kNone, Weights::kReturn),
                plain(module, query, memory, kv_heads, 1 / std::sqrt(3.0), at::zeros({}), seen),
                {query, memory});
  }
}

TEST(MultiHead, CausalSelfAttentionSeesNothingAhead) {
  at::manual_seed(6);
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = 8, .heads = 2});
  at::Tensor x = at::randn({1, 6, 8});
  const at::Tensor before = module(x, x, x, at::Tensor(), Causal::kTopLeft).output;
  x = x.clone();
  x.narrow(1, 4, 2).fill_(100);
  const at::Tensor after = module(x, x, x, at::Tensor(), Causal::kTopLeft).output;
  EXPECT_TRUE(before.narrow(1, 0, 4).equal(after.narrow(1, 0, 4)));
  EXPECT_FALSE(before.narrow(1, 4, 2).equal(after.narrow(1, 4, 2)));
}

TEST(MultiHead, MasksWidthsAndHooksTogether) {
  at::manual_seed(1);
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = E,
                                                      .heads = H,
                                                      .kv_heads = 2,
                                                      .key_size = 6,
                                                      .value_size = 6,
                                                      .head_size = 5,
                                                      .value_head_size = 3,
                                                      .scale = 0.3});
  const at::Tensor query = random({B, T, E}), memory = random({B, S, 6}), slope = random({H});
  at::Tensor padding = at::zeros({B, S}, at::kBool);
  padding[1].narrow(0, 1, 3).fill_(true);
  const program::Table slopes = table(slope);
  using namespace program;
  const AttentionOutput got = module->attend(
      query, memory, memory,
      {.window = {.left = 3, .right = 2},
       .key_padding = padding,
       .score_mod = [&](const Expression& x) { return x + slopes[h()] * (t() - s()); },
       .mask = (s() + h()) % 5 != 4,
       .weights = Weights::kReturn});
  const at::Tensor near = (kRows - kColumns <= 3) & (kColumns - kRows <= 2);
  const at::Tensor fifths = (kColumns + at::arange(H).view({H, 1, 1})).remainder(5) != 4;
  const at::Tensor seen = near & fifths & ~padding.view({B, 1, 1, S});
  expect_same(
      module, got,
      plain(module, query, memory, 2, 0.3, slope.view({H, 1, 1}) * (kRows - kColumns), seen),
      {query, memory, slope});
}

TEST(MultiHead, AHeadMaskIsAFactor) {
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = E, .heads = H, .bias = false});
  const at::Tensor x = at::randn({B, T, E});
  at::Tensor whole = at::zeros({B, T, E});
  for (int64_t head = 0; head < H; ++head) {
    const at::Tensor one = at::zeros({H});
    one[head] = 1;
    whole = whole + module->attend(x, x, x, {.head_mask = one}).output;
  }
  expect_near(whole, module(x, x, x).output);
  const at::Tensor mask = at::rand({B, 1}).expand({B, H});
  expect_near(module->attend(x, x, x, {.head_mask = mask}).output,
              whole * mask.select(1, 0).view({B, 1, 1}));
  EXPECT_THROW(module->attend(x, x, x, {.head_mask = at::rand({H + 1})}), c10::Error);
}

TEST(MultiHead, BatchSecondIsTheSameTransposed) {
  const auto with = [](bool batch_first) {
    at::manual_seed(3);
    return MultiHeadAttention(MultiHeadAttentionOptions{
        .embed_size = E, .heads = 3, .head_size = 2, .batch_first = batch_first});
  };
  MultiHeadAttention first = with(true), second = with(false);
  const at::Tensor x = at::randn({B, T, E}), memory = at::randn({B, S, E});
  const at::Tensor y = memory.transpose(0, 1);
  expect_near(
      second(x.transpose(0, 1), y, y, at::Tensor(), Causal::kBottomRight).output.transpose(0, 1),
      first(x, memory, memory, at::Tensor(), Causal::kBottomRight).output);
}

TEST(MultiHead, DropoutIsForTrainingAlone) {
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = E, .heads = H, .dropout = 0.5});
  const at::Tensor x = at::randn({B, 40, E});
  const auto seeded = [&] {
    at::manual_seed(4);
    return module(x, x, x).output;
  };
  const at::Tensor one = seeded();
  EXPECT_TRUE(seeded().equal(one));
  EXPECT_FALSE(module(x, x, x).output.allclose(one));
  module->eval();
  EXPECT_TRUE(module(x, x, x).output.equal(module(x, x, x).output));
}

TEST(MultiHead, RefusesInOneLine) {
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = E, .heads = H});
  const at::Tensor x = at::randn({B, T, E});
  EXPECT_EQ(error_of([&] {
              module->attend(x, x, x, {.key_padding = at::zeros({B, 3}, at::kBool)});
            }),
            "[MultiHeadAttention] key_padding: expected bool [B,S] = [2, 5], got Bool [2, 3]");
  EXPECT_EQ(
      error_of([] { MultiHeadAttention(MultiHeadAttentionOptions{.embed_size = 10, .heads = 4}); }),
      "[MultiHeadAttention] embed_size: expected a multiple of heads = 4, got 10; or give "
      "head_size");
  EXPECT_EQ(
      error_of([] {
        MultiHeadAttention(MultiHeadAttentionOptions{.embed_size = 8, .heads = 4, .kv_heads = 3});
      }),
      "[MultiHeadAttention] kv_heads: expected a divisor of heads = 4, got 3");
  EXPECT_EQ(printed(module),
            "heed::nn::MultiHeadAttention(embed_size=12, heads=4, kv_heads=4, head_size=3, "
            "value_head_size=3, dropout=0, batch_first=true)");
}

// The cache.

TEST(KeyValueCache, StepByStepIsTheWholeAtOnce) {
  const at::NoGradGuard no_grad;
  for (const bool grow : {false, true}) {
    MultiHeadAttention module(
        MultiHeadAttentionOptions{.embed_size = E, .heads = H, .kv_heads = 2});
    const at::Tensor x = at::randn({B, 9, E});
    KeyValueCache cache = module->make_cache(B, grow ? 2 : 9, grow);
    std::vector<at::Tensor> outputs;
    for (const at::Tensor& part : x.split(4, 1)) {
      outputs.push_back(
          module->attend(part, part, part, {.causal = Causal::kTopLeft, .cache = &cache}).output);
    }
    expect_near(at::cat(outputs, 1), module(x, x, x, at::Tensor(), Causal::kTopLeft).output);
    EXPECT_EQ(cache.length(), 9);
    EXPECT_EQ(cache.capacity(), grow ? 16 : 9);
  }
}

TEST(KeyValueCache, ACrossAttentionReadsWhatItsFirstStepKept) {
  const at::NoGradGuard no_grad;
  MultiHeadAttention module(MultiHeadAttentionOptions{.embed_size = E, .heads = H});
  const at::Tensor memory = at::randn({B, S, E}), query = at::randn({B, 3, E});
  const at::Tensor lengths = at::tensor({7, 3}, at::kLong);
  KeyValueCache cache = module->make_cache(B, S);
  module->attend(query, memory, memory, {.lengths = lengths, .cache = &cache});
  const AttentionOutput got = module->attend(query, {}, {}, {.cache = &cache, .append = false});
  expect_near(got.output, module(query, memory, memory, lengths).output);
}

TEST(KeyValueCache, AppendsInPlaceSelectsAndForgets) {
  KeyValueCache cache({.batch = B, .kv_heads = 2, .capacity = 8, .key_size = 3, .value_size = 5});
  const at::Tensor keys = at::randn({B, 2, 4, 3}), values = at::randn({B, 2, 4, 5});
  cache.append(keys, values, at::tensor({4, 1}, at::kLong));
  const void* memory = cache.keys().const_data_ptr();
  cache.append(keys.narrow(2, 0, 2), values.narrow(2, 0, 2));
  EXPECT_EQ(cache.keys().const_data_ptr(), memory);
  EXPECT_TRUE(cache.lengths().equal(at::tensor({6, 3}, at::kLong)));
  EXPECT_TRUE(cache.keys()[1].narrow(1, 1, 2).equal(keys[1].narrow(1, 0, 2)));
  EXPECT_TRUE(cache.values()[0].narrow(1, 4, 2).equal(values[0].narrow(1, 0, 2)));
  cache.select(at::tensor({1, 1}, at::kLong));
  EXPECT_TRUE(cache.uniform());
  EXPECT_TRUE(cache.keys()[0].narrow(1, 0, 1).equal(keys[1].narrow(1, 0, 1)));
  EXPECT_THROW(cache.select(at::zeros({0}, at::kLong)), c10::Error);
  cache.reset();
  EXPECT_EQ(cache.length(), 0);
  EXPECT_THROW(cache.append(at::randn({B, 2, 9, 3}), at::randn({B, 2, 9, 5})), c10::Error);
  EXPECT_THROW(cache.append(keys, values, at::tensor({5, 1}, at::kLong)), c10::Error);
  EXPECT_THROW(cache.append(keys.narrow(1, 0, 1), values), c10::Error);
}

}  // namespace
}  // namespace heed::nn
