// The C++ face of attention: values against ATen, gradients, layouts, error text.
#include "heed/ops/attention.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/ops/testing.h"

namespace heed {
namespace {

using at::Tensor;

struct Inputs {
  Tensor q = random({2, 4, 5, 8}), k = random({2, 2, 7, 8}), v = random({2, 2, 7, 3});
};

// [B,H,T,S] of additive scores, every value stored.
Tensor additive_scores(const Tensor& q, const Tensor& k, const Tensor& weight) {
  return at::einsum("bhtsd,hd->bhts", {at::tanh(q.unsqueeze(3) + k.unsqueeze(2)), weight});
}

TEST(Attention, EqualsTorchsForDotScores) {
  const Inputs in;
  const Tensor expected = at::scaled_dot_product_attention(in.q, in.k, in.v, {}, 0.0, false,
                                                           std::nullopt, /*enable_gqa=*/true);
  const Tensor out = attention(in.q, in.k, in.v);
  EXPECT_EQ(out.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(out, expected, 1e-5, 1e-5));
}

TEST(Attention, EqualsTheFormulaForAdditiveScores) {
  const Tensor q = random({3, 2, 4, 6}), k = random({3, 2, 5, 6}), v = random({3, 2, 5, 7});
  const Tensor weight = random({2, 6});
  const auto [out, lse] =
      attention_with_lse(q, k, v, {.score = Score::kAdditive, .weight = weight});
  const Tensor scores = additive_scores(q, k, weight);
  EXPECT_TRUE(at::allclose(out, at::matmul(scores.softmax(-1), v), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(lse, scores.logsumexp(-1), 1e-5, 1e-5));
}

TEST(Attention, CornersDifferWhenThereAreMoreKeysThanQueries) {
  const Tensor q = random({1, 1, 2, 4}), k = random({1, 1, 5, 4});
  const Tensor top = attention_weights(q, k, {.causal = Causal::kTopLeft});
  const Tensor bottom = attention_weights(q, k, {.causal = Causal::kBottomRight});
  const auto seen = [](const Tensor& p) { return p.gt(0).sum(-1).flatten(); };
  EXPECT_TRUE(at::equal(seen(top), at::tensor({1, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(seen(bottom), at::tensor({4, 5}, at::kLong)));
}

TEST(Attention, LengthsHideKeysAndAnEmptyElementGivesZero) {
  Inputs in;
  in.k[0].slice(1, 3).fill_(std::numeric_limits<float>::quiet_NaN());
  in.v[0].slice(1, 3).fill_(std::numeric_limits<float>::quiet_NaN());
  const Tensor lengths = at::tensor({3, 0}, at::kLong);
  const auto [out, lse] = attention_with_lse(in.q, in.k, in.v, {.kv_lengths = lengths});
  const Tensor expected = attention(in.q.slice(0, 0, 1), in.k.slice(0, 0, 1).slice(2, 0, 3),
                                    in.v.slice(0, 0, 1).slice(2, 0, 3));
  EXPECT_TRUE(at::allclose(out.slice(0, 0, 1), expected, 1e-6, 1e-6));
  EXPECT_TRUE(out[1].eq(0).all().item<bool>());
  EXPECT_TRUE(lse[1].eq(-std::numeric_limits<float>::infinity()).all().item<bool>());
}

TEST(Attention, ScaleDefaultsToTheRootOfTheWidth) {
  const Inputs in;
  const Tensor by_default = attention(in.q, in.k, in.v);
  EXPECT_TRUE(at::equal(by_default, attention(in.q, in.k, in.v, {.scale = 1 / std::sqrt(8.0)})));
  EXPECT_FALSE(at::equal(by_default, attention(in.q, in.k, in.v, {.scale = 1.0})));
}

TEST(Attention, HalvesAreCloseToDoubleAndReduceInFloat) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Inputs in;
    const Tensor q = in.q.to(type), k = in.k.to(type), v = in.v.to(type);
    const auto [out, lse] = attention_with_lse(q, k, v);
    const auto [expected, expected_lse] =
        attention_with_lse(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble));
    EXPECT_EQ(out.scalar_type(), type);
    EXPECT_EQ(lse.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::allclose(out.to(at::kDouble), expected, 1e-2, 1e-2));
    EXPECT_TRUE(at::allclose(lse.to(at::kDouble), expected_lse, 1e-5, 1e-5));
  }
}

TEST(Attention, CosineIsTheDotProductOfUnitRows) {
  const Inputs in;
  const auto unit = [](const Tensor& x) { return x / x.norm(2, {-1}, /*keepdim=*/true); };
  const Tensor expected = attention(unit(in.q), unit(in.k), in.v, {.scale = 1.0});
  EXPECT_TRUE(at::allclose(attention(in.q, in.k, in.v, {.cosine = true}), expected, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(
      at::matmul(attention_weights(in.q, in.k, {.cosine = true}), in.v.repeat_interleave(2, 1)),
      expected, 1e-5, 1e-6));
}

TEST(Attention, AScoreOfNothingNeverReadsQueriesAndKeys) {
  Inputs in;
  in.q.fill_(std::numeric_limits<float>::quiet_NaN());
  in.k.fill_(std::numeric_limits<float>::quiet_NaN());
  const Tensor out = attention(in.q, in.k, in.v, {.score = Score::kNone});
  const Tensor mean = in.v.mean(2, /*keepdim=*/true).repeat_interleave(2, 1).expand_as(out);
  EXPECT_TRUE(at::allclose(out, mean, 1e-5, 1e-5));
}

TEST(Attention, AWindowCountsFromTheCorner) {
  const Tensor q = random({1, 1, 3, 4}), k = random({1, 1, 6, 4});
  const auto seen = [&](const AttentionOptions& options) {
    return attention_weights(q, k, options).gt(0).to(at::kLong).squeeze(0).squeeze(0);
  };
  const auto table = [](std::initializer_list<int64_t> values) {
    return at::tensor(values, at::kLong).reshape({3, 6});
  };
  EXPECT_TRUE(at::equal(seen({.window = {.left = 1, .right = 0}}),
                        table({1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0})));
  EXPECT_TRUE(at::equal(seen({.causal = Causal::kBottomRight, .window = {.left = 1, .right = -1}}),
                        table({0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1})));
  EXPECT_TRUE(at::equal(seen({.window = {.left = -1, .right = -1}}), seen({})));
}

TEST(Attention, ASinkIsOneMoreKeyWithoutAValue) {
  const Inputs in;
  const Tensor sinks = random({4});
  const auto [plain, plain_lse] = attention_with_lse(in.q, in.k, in.v);
  const auto [out, lse] = attention_with_lse(in.q, in.k, in.v, {.sinks = sinks});
  const Tensor expected = at::logaddexp(plain_lse, sinks.view({1, 4, 1}));
  EXPECT_TRUE(at::allclose(lse, expected, 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(out, plain * (plain_lse - expected).exp().unsqueeze(-1), 1e-5, 1e-5));
}

TEST(Attention, TopKKeepsTheLargestScores) {
  const Inputs in;
  const Tensor p = attention_weights(in.q, in.k), top = std::get<0>(p.topk(3, -1));
  const Tensor kept = p.masked_fill(p.lt(top.slice(-1, 2, 3)), 0.0);
  EXPECT_TRUE(at::allclose(attention_weights(in.q, in.k, {.top_k = 3}),
                           kept / kept.sum(-1, /*keepdim=*/true), 1e-5, 1e-6));
}

TEST(AttentionDropout, IsAFunctionOfTheSeed) {
  const Inputs in;
  const auto out = [&](int64_t seed) {
    return attention(in.q, in.k, in.v, {.dropout_p = 0.5, .seed = seed});
  };
  EXPECT_TRUE(at::equal(out(3), out(3)));
  EXPECT_FALSE(at::equal(out(3), out(4)));
  EXPECT_TRUE(at::equal(
      out(3),
      attention(in.q, in.k, in.v, {.dropout_p = 0.5, .drawn_seed = at::full({}, 3, at::kLong)})));
  EXPECT_FALSE(at::equal(out(3), attention(in.q, in.k, in.v)));
}

TEST(AttentionDropout, WithoutASeedDrawsFromTorchsGenerator) {
  const Inputs in;
  const auto out = [&] { return attention(in.q, in.k, in.v, {.dropout_p = 0.5}); };
  at::manual_seed(5);
  const Tensor first = out(), second = out();
  at::manual_seed(5);
  EXPECT_TRUE(at::equal(out(), first));
  EXPECT_FALSE(at::equal(first, second));
}

// out is linear in v whatever was dropped, so <d_v, v> = <d_out, out> where both saw one mask.
TEST(AttentionDropout, BackwardDropsWhatForwardDropped) {
  Inputs in;
  in.v.requires_grad_();
  const Tensor out = attention(in.q, in.k, in.v, {.dropout_p = 0.5});
  const Tensor d_out = random({2, 4, 5, 3});
  const Tensor d_v = gradients((out * d_out).sum(), {in.v})[0];
  EXPECT_TRUE(at::allclose((d_v * in.v).sum(), (d_out * out).sum(), 1e-4, 1e-4));
}

TEST(Attention, HasNothingToDoWithoutHeads) {
  const Tensor q = random({2, 0, 5, 8}), k = random({2, 0, 7, 8});
  EXPECT_EQ(attention(q, k, k).sizes(), at::IntArrayRef({2, 0, 5, 8}));
}

TEST(AttentionWeights, RowsSumToOneAndGiveTheOutput) {
  const Inputs in;
  const Tensor p = attention_weights(in.q, in.k);
  EXPECT_EQ(p.sizes(), at::IntArrayRef({2, 4, 5, 7}));
  EXPECT_TRUE(at::allclose(p.sum(-1), at::ones({2, 4, 5}), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(at::matmul(p, in.v.repeat_interleave(2, 1)), attention(in.q, in.k, in.v),
                           1e-5, 1e-5));
}

TEST(AttentionGradient, EqualsTorchsForDotScores) {
  Inputs in;
  const std::vector<Tensor> leaves = {in.q.requires_grad_(), in.k.requires_grad_(),
                                      in.v.requires_grad_()};
  const Tensor d_out = random({2, 4, 5, 3});
  const auto own = gradients((attention(in.q, in.k, in.v) * d_out).sum(), leaves);
  const Tensor expected = at::scaled_dot_product_attention(in.q, in.k, in.v, {}, 0.0, false,
                                                           std::nullopt, /*enable_gqa=*/true);
  const auto theirs = gradients((expected * d_out).sum(), leaves);
  for (size_t i = 0; i < own.size(); ++i) EXPECT_TRUE(at::allclose(own[i], theirs[i], 1e-4, 1e-5));
}

TEST(AttentionGradient, ReachesTheWeightAndComesThroughLse) {
  const std::vector<Tensor> leaves = {leaf({2, 2, 3, 4}), leaf({2, 2, 5, 4}), leaf({2, 2, 5, 3}),
                                      leaf({2, 4})};
  const auto [out, lse] = attention_with_lse(leaves[0], leaves[1], leaves[2],
                                             {.score = Score::kAdditive, .weight = leaves[3]});
  const auto own = gradients(out.sin().sum() + lse.cos().sum(), leaves);
  const Tensor scores = additive_scores(leaves[0], leaves[1], leaves[3]);
  const Tensor expected = at::matmul(scores.softmax(-1), leaves[2]);
  const auto right = gradients(expected.sin().sum() + scores.logsumexp(-1).cos().sum(), leaves);
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_TRUE(at::allclose(own[i], right[i], 1e-10, 1e-10)) << i;
  }
}

TEST(AttentionGradient, ReachesSinks) {
  const std::vector<Tensor> leaves = {leaf({2, 2, 3, 4}), leaf({2, 2, 5, 4}), leaf({2, 2, 5, 3}),
                                      leaf({2})};
  const auto [out, lse] = attention_with_lse(leaves[0], leaves[1], leaves[2], {.sinks = leaves[3]});
  const auto own = gradients(out.sin().sum() + lse.cos().sum(), leaves);
  const Tensor scores = at::matmul(leaves[0], leaves[1].transpose(-1, -2)) / 2;
  const Tensor expected_lse = at::logaddexp(scores.logsumexp(-1), leaves[3].view({1, 2, 1}));
  const Tensor expected = at::matmul((scores - expected_lse.unsqueeze(-1)).exp(), leaves[2]);
  const auto right = gradients(expected.sin().sum() + expected_lse.cos().sum(), leaves);
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_TRUE(at::allclose(own[i], right[i], 1e-10, 1e-10)) << i;
  }
}

TEST(AttentionGradient, GoesThroughTheNormsOfCosine) {
  const std::vector<Tensor> leaves = {leaf({2, 2, 3, 4}), leaf({2, 2, 5, 4}), leaf({2, 2, 5, 3})};
  const auto unit = [](const Tensor& x) { return x / x.norm(2, {-1}, /*keepdim=*/true); };
  const auto loss = [&](const Tensor& out) { return out.sin().sum(); };
  const auto own =
      gradients(loss(attention(leaves[0], leaves[1], leaves[2], {.cosine = true})), leaves);
  const auto right = gradients(
      loss(attention(unit(leaves[0]), unit(leaves[1]), leaves[2], {.scale = 1.0})), leaves);
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_TRUE(at::allclose(own[i], right[i], 1e-10, 1e-10)) << i;
  }
}

TEST(AttentionGradient, OfCosineIsNotReachedByAMaskedNan) {
  const Tensor q = leaf({1, 1, 3, 4}), keys = random({1, 1, 5, 4}, at::kDouble);
  const auto d_k = [&](double masked) {
    Tensor k = keys.clone();
    k.slice(2, 3).fill_(masked);
    k.requires_grad_();
    const Tensor lengths = at::tensor({3}, at::kLong);
    return gradients(attention(q, k, keys, {.cosine = true, .kv_lengths = lengths}).sum(), {k})[0];
  };
  EXPECT_TRUE(at::equal(d_k(std::numeric_limits<double>::quiet_NaN()), d_k(1.0)));
}

TEST(AttentionGradient, IsNotRecordedWhereNoneIsAsked) {
  Inputs in;
  EXPECT_FALSE(attention(in.q, in.k, in.v).requires_grad());
  in.q.requires_grad_();
  EXPECT_TRUE(attention(in.q, in.k, in.v).requires_grad());
  EXPECT_FALSE(attention_weights(in.q, in.k).requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(attention(in.q, in.k, in.v).requires_grad());
}

TEST(AttentionLayout, FollowsATokenMajorQuery) {
  const auto token_major = [](int64_t T, int64_t D) {
    return random({2, T, 3, D}).transpose(1, 2).requires_grad_();
  };
  const Tensor q = token_major(5, 8), k = token_major(7, 8), v = token_major(7, 4);
  const Tensor out = attention(q, k, v);
  EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
  for (const Tensor& gradient : gradients(out.sum(), {q, k, v})) {
    EXPECT_TRUE(gradient.transpose(1, 2).is_contiguous());
  }
  EXPECT_TRUE(at::allclose(out, attention(q.contiguous(), k.contiguous(), v.contiguous())));
}

TEST(AttentionLayout, RowsThatAreNotContiguousGiveTheSame) {
  const Tensor q = random({2, 3, 8, 5}).transpose(2, 3), k = random({2, 3, 8, 7}).transpose(2, 3);
  const Tensor v = random({2, 3, 4, 7}).transpose(2, 3);
  EXPECT_TRUE(
      at::equal(attention(q, k, v), attention(q.contiguous(), k.contiguous(), v.contiguous())));
}

TEST(AttentionThreads, SameBitsForAnyNumber) {
  const Tensor q = random({2, 3, 150, 16}).requires_grad_(), d_out = random({2, 3, 150, 16});
  const int before = at::get_num_threads();
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const Tensor out = attention(q, q, q, {.causal = Causal::kTopLeft});
    const std::vector<Tensor> results = {out, gradients((out * d_out).sum(), {q})[0]};
    if (first.empty()) first = results;
    for (size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(at::equal(results[i], first[i]));
  }
  at::set_num_threads(before);
}

TEST(AttentionErrors, NameTheArgumentTheExpectedAndTheGot) {
  const Inputs in;
  const Tensor wrong = random({2, 2, 7, 9});
  EXPECT_EQ(error_of([&] { attention(in.q, wrong, in.v); }),
            "[attention] k: expected [B,Hkv,S,D] = [2,2,7,8], got [2,2,7,9]");
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, in.v.slice(2, 0, 6)); }),
            "[attention] v: expected [B,Hkv,S,Dv] = [2,2,7,3], got [2,2,6,3]");
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, in.v, {.score = Score::kAdditive}); }),
            "[attention] weight: expected [H,D] for kind 'additive', got None");
  const Tensor lengths = at::tensor({8, 1}, at::kLong);
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, in.v, {.kv_lengths = lengths}); }),
            "[attention] kv_lengths: expected lengths in [0, S = 7], got 8 at 0");
  EXPECT_EQ(error_of([&] { attention_weights(in.q, wrong); }),
            "[attention_weights] k: expected [B,Hkv,S,D] = [2,2,7,8], got [2,2,7,9]");
}

TEST(AttentionErrors, OfOptions) {
  const Inputs in;
  const auto error = [&](const AttentionOptions& options) {
    return error_of([&] { attention(in.q, in.k, in.v, options); });
  };
  EXPECT_EQ(error({.window = {.left = -2, .right = 3}}),
            "[attention] window: expected two integers >= -1, got [-2,3]");
  EXPECT_EQ(error({.sinks = random({3})}), "[attention] sinks: expected [H] = [4], got [3]");
  EXPECT_EQ(error({.top_k = -1}), "[attention] top_k: expected None or at least 1, got -1");
  EXPECT_EQ(error({.dropout_p = 1.0}),
            "[attention] dropout_p: expected a probability in [0, 1), got 1");
  EXPECT_EQ(error_of([&] { attention(in.q.to(at::kInt), in.k, in.v); }),
            "[attention] q: expected dtype float32, bfloat16, float16 or float64, got int32");
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, in.v.to(at::kHalf)); }),
            "[attention] v: expected dtype float32, got float16");
}

TEST(AttentionErrors, UndefinedTensorsAreRefused) {
  const Inputs in;
  EXPECT_NE(error_of([&] { attention(Tensor(), in.k, in.v); }), "no error");
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, Tensor()); }),
            "[attention] v: expected a tensor, got None");
}

}  // namespace
}  // namespace heed
