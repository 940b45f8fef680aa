// Score programs over tensors: values and gradients against the same scores made by ATen.
#include "heed/ops/score_program.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "heed/ops/attention.h"
#include "tests/ops/testing.h"

namespace heed {
namespace {

using at::Tensor;
using program::Expression;
using program::ScoreProgram;

constexpr int64_t B = 2, H = 3, T = 4, S = 5, D = 4;

// The letters of programs.
Expression score() { return program::score(); }
Expression b() { return program::b(); }
Expression h() { return program::h(); }
Expression t() { return program::t(); }
Expression s() { return program::s(); }

struct Inputs {
  Tensor q = leaf({B, H, T, D}), k = leaf({B, H, S, D}), v = leaf({B, H, S, D});

  Tensor dot() const { return at::matmul(q, k.transpose(-1, -2)) / 2; }  // [B,H,T,S]
  Tensor expected(const Tensor& scores) const { return at::matmul(scores.softmax(-1), v); }
};

// t - s of each pair, [T,S].
Tensor distance() {
  return at::arange(T, at::kDouble).unsqueeze(1) - at::arange(S, at::kDouble).unsqueeze(0);
}

void expect_same(const Tensor& own, const Tensor& expected, const std::vector<Tensor>& leaves) {
  EXPECT_TRUE(at::allclose(own, expected, 1e-10, 1e-10));
  const auto found = gradients(own.sin().sum(), leaves);
  const auto right = gradients(expected.sin().sum(), leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_EQ(found[i].sizes(), right[i].sizes()) << i;
    EXPECT_EQ(found[i].scalar_type(), right[i].scalar_type()) << i;
    EXPECT_TRUE(at::allclose(found[i], right[i], 1e-9, 1e-9)) << i;
  }
}

TEST(ScoreProgram, SlopesLearn) {
  const Inputs in;
  const Tensor slopes = leaf({H});
  const auto slope = table(slopes);
  const Tensor out =
      attention(in.q, in.k, in.v, {.program = ScoreProgram(score() - slope[h()] * (t() - s()))});
  const Tensor scores = in.dot() - slopes.view({1, H, 1, 1}) * distance();
  expect_same(out, in.expected(scores), {in.q, in.k, in.v, slopes});
}

TEST(ScoreProgram, ABroadcastTableGetsAGradientInItsOwnShape) {
  const Inputs in;
  const Tensor row = leaf({1, S}), biases = row.expand({T, S});  // stride 0 along T
  const auto bias = table(biases);
  const Tensor out =
      attention(in.q, in.k, in.v, {.program = ScoreProgram(score() + bias.at({t(), s()}))});
  expect_same(out, in.expected(in.dot() + row), {in.q, row});
}

TEST(ScoreProgram, TablesOfOtherTypesAndStridesAreRead) {
  const Inputs in;
  const Tensor caps = leaf({H, B}, at::kFloat).transpose(0, 1);  // [B,H]
  const Tensor buckets = at::arange(T * S, at::kShort).remainder(3).reshape({T, S});
  const Tensor biases = leaf({3}, at::kBFloat16);
  const auto cap = table(caps), bucket = table(buckets), bias = table(biases);
  const Expression capped = tanh(score()) * cap.at({b(), h()});
  const Tensor out =
      attention(in.q, in.k, in.v, {.program = ScoreProgram(capped + bias[bucket.at({t(), s()})])});
  const Tensor scores = in.dot().tanh() * caps.to(at::kDouble).view({B, H, 1, 1}) +
                        biases.to(at::kDouble).index({buckets.to(at::kLong)});
  EXPECT_TRUE(at::allclose(out, in.expected(scores), 1e-10, 1e-10));
  const auto found = gradients(out.sin().sum(), {biases});
  const auto right = gradients(in.expected(scores).sin().sum(), {biases});
  EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::allclose(found[0], right[0], 1e-2, 1e-3));
}

TEST(ScoreProgram, AMaskHides) {
  const Inputs in;
  const Tensor by_option = attention(in.q, in.k, in.v, {.causal = Causal::kTopLeft});
  const Tensor by_mask = attention(in.q, in.k, in.v, {.program = ScoreProgram::masked(s() <= t())});
  EXPECT_TRUE(at::allclose(by_mask, by_option, 1e-10, 1e-10));
  const Tensor allowed = at::rand({T, S}).gt(0.5);
  const auto allow = table(allowed);
  const Tensor p =
      attention_weights(in.q, in.k, {.program = ScoreProgram::masked(allow.at({t(), s()}))});
  EXPECT_TRUE(at::equal(p.gt(0), allowed.expand({B, H, T, S})));
}

TEST(ScoreProgram, ATableNeedsToReachNoFartherThanTheBand) {
  const Inputs in;
  const Tensor biases = random({3}, at::kDouble);  // of t - s = 0, 1, 2
  const auto bias = table(biases);
  AttentionOptions options{.program = ScoreProgram(score() + bias[t() - s()])};
  options.causal = Causal::kTopLeft;
  options.window.left = 2;
  const Tensor outside = distance().lt(0).logical_or(distance().gt(2));
  const Tensor scores = in.dot() + biases.index({distance().clamp(0, 2).to(at::kLong)});
  EXPECT_TRUE(at::allclose(attention(in.q, in.k, in.v, options),
                           in.expected(scores.masked_fill(outside, -1e30)), 1e-10, 1e-10));
  options.window.left = 3;
  EXPECT_NE(error_of([&] { attention(in.q, in.k, in.v, options); }), "no error");
}

TEST(ScoreProgram, ATableLivesAsLongAsItsExpression) {
  const Inputs in;
  AttentionOptions options;
  Tensor kept;
  {
    const Tensor biases = random({S}, at::kDouble);
    kept = biases.clone();
    options.program = ScoreProgram(score() + table(biases)[s()]);
  }
  EXPECT_TRUE(at::allclose(attention(in.q, in.k, in.v, options), in.expected(in.dot() + kept)));
}

TEST(ScoreProgram, RunsInHalfPrecision) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Inputs in;
    const Tensor slopes = leaf({H}, type);
    const auto slope = table(slopes);
    const AttentionOptions options{.program = ScoreProgram(score() - slope[h()] * (t() - s()))};
    const Tensor out = attention(in.q.to(type), in.k.to(type), in.v.to(type), options);
    const Tensor scores =
        in.dot() - slopes.detach().to(at::kDouble).view({1, H, 1, 1}) * distance();
    EXPECT_TRUE(at::allclose(out.to(at::kDouble), in.expected(scores), 5e-2, 5e-2)) << type;
    EXPECT_EQ(gradients(out.sum(), {slopes})[0].scalar_type(), type);
  }
}

TEST(ScoreProgramErrors, NameTheProgram) {
  const Inputs in;
  const auto error = [&](TensorProgram program) {
    return error_of([&] { attention(in.q, in.k, in.v, {.program = std::move(program)}); });
  };
  const std::string prefix = "[attention] program: ";
  EXPECT_EQ(error({"score = dot +\n", {}}).substr(0, prefix.size()), prefix);
  EXPECT_EQ(error({"table0: float[1]\nscore = dot + table0[s]\n", {}}).substr(0, prefix.size()),
            prefix);
  const Tensor too_short = random({S - 1});
  const std::string outside = error(ScoreProgram(score() + table(too_short)[s()]));
  EXPECT_EQ(outside.substr(0, prefix.size()), prefix) << outside;
  EXPECT_EQ(error({"", {too_short}}), "[attention] tables: expected none without a program, got 1");
}

TEST(ScoreProgramErrors, OnlyTensorsMakeTables) {
  const float slopes[H] = {1, 2, 3};
  const program::Table slope(slopes, {H});
  EXPECT_EQ(error_of([&] { TensorProgram(ScoreProgram(score() + slope[h()])); }),
            "[attention] program: expected tables made by heed::table");
}

}  // namespace
}  // namespace heed
