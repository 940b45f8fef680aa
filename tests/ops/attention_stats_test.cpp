// Statistics against the same of the whole matrix.
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/xlogy.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "heed/ops/attention.h"
#include "tests/ops/testing.h"

namespace heed {
namespace {

using at::Tensor;

constexpr int64_t B = 2, H = 2, T = 7, S = 9, D = 4;

struct Inputs {
  Tensor q = random({B, H, T, D}), k = random({B, H, S, D}), v = random({B, H, S, 3});
  AttentionOptions options{.causal = Causal::kBottomRight};
  Tensor p = attention_weights(q, k, options);

  std::vector<Tensor> stats(const std::vector<std::string>& want,
                            const Tensor& row_weights = {}) const {
    return attention_stats(q, k, v, want, row_weights, options);
  }
};

bool close(const Tensor& x, const Tensor& y) { return at::allclose(x, y, 1e-4, 1e-5); }

TEST(AttentionStats, OfRows) {
  const Inputs in;
  const auto stats = in.stats({"top:3", "entropy", "max"});
  ASSERT_EQ(stats.size(), 6u);  // out, lse, keys, weights, entropy, max
  const auto [out, lse] = attention_with_lse(in.q, in.k, in.v, in.options);
  EXPECT_TRUE(close(stats[0], out));
  EXPECT_TRUE(close(stats[1], lse));
  const auto [weights, keys] = in.p.topk(3, -1);
  EXPECT_TRUE(at::equal(stats[2], keys));
  EXPECT_TRUE(close(stats[3], weights));
  EXPECT_TRUE(close(stats[4], -at::xlogy(in.p, in.p).sum(-1)));
  EXPECT_TRUE(close(stats[5], in.p.amax(-1).log() + lse));
}

TEST(AttentionStats, OfColumns) {
  const Inputs in;
  const Tensor row_weights = at::rand({B, T, H}).transpose(1, 2);
  EXPECT_TRUE(close(in.stats({"column_sums"})[2], in.p.sum(-2)));
  EXPECT_TRUE(
      close(in.stats({"column_sums"}, row_weights)[2], (in.p * row_weights.unsqueeze(-1)).sum(-2)));
}

TEST(AttentionStats, OfDiagonalsAndBlocks) {
  const Inputs in;
  const auto stats = in.stats({"diagonal:2", "diagonal:-1", "blocks:4"});
  EXPECT_TRUE(close(stats[2], in.p.diagonal(2, -2, -1)));
  const Tensor below = at::zeros({B, H, T});
  below.slice(-1, 1).copy_(in.p.diagonal(-1, -2, -1));
  EXPECT_TRUE(close(stats[3], below));
  EXPECT_EQ(stats[4].sizes(), at::IntArrayRef({B, H, 2, 3}));
  EXPECT_TRUE(close(stats[4].select(-2, 1).select(-1, 0),
                    in.p.slice(-2, 4, 8).slice(-1, 0, 4).mean({-2, -1})));
  EXPECT_TRUE(close(stats[4].select(-2, 0).select(-1, 2),
                    in.p.slice(-2, 0, 4).slice(-1, 8).mean({-2, -1})));
}

TEST(AttentionStats, GradientTimesAttention) {
  const Inputs in;
  const auto [out, lse] = attention_with_lse(in.q, in.k, in.v, in.options);
  const Tensor d_out = random({B, H, T, 3}), row_weights = at::rand({B, H, T});
  const Tensor gain = (in.p * at::matmul(d_out, in.v.transpose(-1, -2))).clamp_min(0);
  EXPECT_TRUE(close(
      attention_gradient_column_sums(in.q, in.k, in.v, out, lse, d_out, row_weights, in.options),
      (gain * row_weights.unsqueeze(-1)).sum(-2)));
}

TEST(AttentionStatsErrors, NameTheWord) {
  const Inputs in;
  const auto error = [&](const std::vector<std::string>& want) {
    return error_of([&] { in.stats(want); });
  };
  const std::string expected =
      "[attention_stats] want: expected 'entropy', 'max', 'top:n', 'column_sums', 'diagonal:d' or "
      "'blocks:n', got ";
  for (const char* word : {"mean", "top", "top:", "top:0", "top:2x", "blocks:-1", "entropy:1"}) {
    EXPECT_EQ(error({word}), expected + "'" + word + "'");
  }
  EXPECT_EQ(error({"top:2", "top:3"}),
            "[attention_stats] want: expected each at most once, except diagonals, got 'top:2' and "
            "'top:3'");
  EXPECT_EQ(error_of([&] {
              in.stats({"column_sums"}, at::rand({B, H, T + 1}));
            }),
            "[attention_stats] row_weights: expected [B,H,T] = [2,2,7], got [2,2,8]");
}

}  // namespace
}  // namespace heed
