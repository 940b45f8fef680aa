// Packed sequences: the same as one call for each of them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <vector>

#include "heed/ops/attention.h"
#include "tests/ops/testing.h"

namespace heed {
namespace {

using at::Tensor;

constexpr int64_t H = 4, Hkv = 2, D = 6, Dv = 3;
const std::vector<int64_t> kQueries = {0, 3, 3, 8}, kKeys = {0, 5, 7, 11};  // one has no query

struct Packed {
  Tensor q = leaf({8, H, D}), k = leaf({11, Hkv, D}), v = leaf({11, Hkv, Dv});
  Tensor cu_q = at::tensor(kQueries, at::kLong), cu_k = at::tensor(kKeys, at::kInt);

  std::tuple<Tensor, Tensor> own(const AttentionOptions& options) const {
    return varlen_attention_with_lse(q, k, v, cu_q, cu_k, options);
  }

  // One call an element, [sum T,H,Dv] and [H,sum T].
  std::tuple<Tensor, Tensor> expected(const AttentionOptions& options) const {
    std::vector<Tensor> outs, lses;
    for (size_t b = 0; b + 1 < kQueries.size(); ++b) {
      const auto element = [&](const Tensor& x, const std::vector<int64_t>& offsets) {
        return x.slice(0, offsets[b], offsets[b + 1]).transpose(0, 1).unsqueeze(0);
      };
      const auto [out, lse] =
          attention_with_lse(element(q, kQueries), element(k, kKeys), element(v, kKeys), options);
      outs.push_back(out.squeeze(0).transpose(0, 1));
      lses.push_back(lse.squeeze(0));
    }
    return {at::cat(outs, 0), at::cat(lses, 1)};
  }
};

TEST(VarlenAttention, EqualsOneCallAnElement) {
  using namespace heed::program;
  const Packed in;
  const Tensor slopes = leaf({H}), sinks = leaf({H});
  const auto slope = table(slopes);
  const AttentionOptions rules[] = {
      {},
      {.causal = Causal::kBottomRight},
      {.causal = Causal::kTopLeft, .window = {.left = 1, .right = -1}},
      {.program = ScoreProgram(score() - slope[h()] * (t() - s())), .sinks = sinks}};
  for (const AttentionOptions& options : rules) {
    const auto [out, lse] = in.own(options);
    const auto [expected, expected_lse] = in.expected(options);
    EXPECT_TRUE(at::allclose(out, expected, 1e-10, 1e-10));
    EXPECT_TRUE(at::allclose(lse, expected_lse, 1e-10, 1e-10));
    std::vector<Tensor> leaves = {in.q, in.k, in.v};
    if (options.sinks.defined()) leaves.insert(leaves.end(), {slopes, sinks});
    const auto loss = [](const Tensor& x, const Tensor& y) {
      return x.sin().sum() + y.clamp_min(-100).cos().sum();
    };
    const auto found = gradients(loss(out, lse), leaves);
    const auto right = gradients(loss(expected, expected_lse), leaves);
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_TRUE(at::allclose(found[i], right[i], 1e-9, 1e-9)) << i;
    }
  }
}

TEST(VarlenAttention, TakesAnyStrides) {
  const Packed in;
  const Tensor q = in.q.detach().transpose(0, 1).contiguous().transpose(0, 1);
  const Tensor k = in.k.detach().transpose(1, 2).contiguous().transpose(1, 2);
  const Tensor out = varlen_attention(q, k, in.v, in.cu_q, in.cu_k);
  EXPECT_TRUE(out.is_contiguous());
  EXPECT_TRUE(at::equal(out, std::get<0>(in.own({}))));
}

TEST(VarlenAttentionErrors, NameTheOffsets) {
  const Packed in;
  const auto error = [&](const Tensor& cu_q, const Tensor& cu_k) {
    return error_of([&] { varlen_attention(in.q, in.k, in.v, cu_q, cu_k); });
  };
  const auto offsets = [](const std::vector<int64_t>& values) {
    return at::tensor(values, at::kLong);
  };
  EXPECT_EQ(error(offsets({0, 9}), offsets({0, 11})),
            "[varlen_attention] cu_seqlens_q: expected offsets that rise from 0 to 8, got 9 at 1");
  EXPECT_EQ(error(offsets({1, 8}), offsets({0, 11})),
            "[varlen_attention] cu_seqlens_q: expected offsets that rise from 0 to 8, got 1 at 0");
  EXPECT_EQ(error(offsets({0, 4, 8}), offsets({0, 12, 11})),
            "[varlen_attention] cu_seqlens_k: expected offsets that rise from 0 to 11, got 11 at "
            "2");
  EXPECT_EQ(error(offsets({0, 4, 8}), offsets({0, 11})),
            "[varlen_attention] cu_seqlens_k: expected [B+1] = [3], got [2]");
  EXPECT_EQ(error(in.cu_q.to(at::kFloat), in.cu_k),
            "[varlen_attention] cu_seqlens_q: expected dtype int32 or int64, got float32");
  EXPECT_EQ(error_of([&] {
              varlen_attention(in.q, in.k, in.v, in.cu_q, in.cu_k,
                               {.kv_lengths = at::tensor({1, 2, 3}, at::kLong)});
            }),
            "[varlen_attention] kv_lengths: expected None with packed sequences, got a tensor");
}

}  // namespace
}  // namespace heed
