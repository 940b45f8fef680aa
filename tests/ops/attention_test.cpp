// The C++ face of attention: values against ATen, gradients, layouts, error text.
#include "heed/ops/attention.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace heed {
namespace {

using at::Tensor;

Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::randn(sizes, at::TensorOptions().dtype(type));
}

struct Inputs {
  Tensor q = random({2, 4, 5, 8}), k = random({2, 2, 7, 8}), v = random({2, 2, 7, 3});
};

// [B,H,T,S] of additive scores, every value stored.
Tensor additive_scores(const Tensor& q, const Tensor& k, const Tensor& weight) {
  return at::einsum("bhtsd,hd->bhts", {at::tanh(q.unsqueeze(3) + k.unsqueeze(2)), weight});
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
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

TEST(AttentionWeights, RowsSumToOneAndGiveTheOutput) {
  const Inputs in;
  const Tensor p = attention_weights(in.q, in.k);
  EXPECT_EQ(p.sizes(), at::IntArrayRef({2, 4, 5, 7}));
  EXPECT_TRUE(at::allclose(p.sum(-1), at::ones({2, 4, 5}), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(at::matmul(p, in.v.repeat_interleave(2, 1)), attention(in.q, in.k, in.v),
                           1e-5, 1e-5));
}

std::vector<Tensor> gradients(const Tensor& loss, const std::vector<Tensor>& inputs) {
  return torch::autograd::grad({loss}, inputs);
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
  const auto leaf = [](at::IntArrayRef sizes) {
    return random(sizes, at::kDouble).requires_grad_();
  };
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

TEST(AttentionErrors, UndefinedTensorsAreRefused) {
  const Inputs in;
  EXPECT_NE(error_of([&] { attention(Tensor(), in.k, in.v); }), "no error");
  EXPECT_EQ(error_of([&] { attention(in.q, in.k, Tensor()); }),
            "[attention] v: expected a tensor, got None");
}

}  // namespace
}  // namespace heed
