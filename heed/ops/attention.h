// Attention on torch tensors: one family of operators, with autograd, for C++ and Python.
//
//   using namespace heed::program;
//   const auto slope = heed::table(slopes);  // at::Tensor [H], may require a gradient
//   const at::Tensor out = heed::attention(
//       q, k, v, {.program = ScoreProgram(score() - slope[h()] * (t() - s())),
//                 .causal = heed::Causal::kBottomRight});
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "heed/core/attention.h"
#include "heed/ops/score_program.h"

namespace heed {

struct AttentionOptions {
  Score score = Score::kDot;
  bool cosine = false;         // with kDot: rows of q and k are divided by their norms first
  TensorProgram program = {};  // what becomes of the score, and a mask; its float tables get
                               // gradients
  Causal causal = Causal::kNone;
  Window window = {};
  std::optional<double> scale = std::nullopt;  // default: 1 / sqrt(D) for dot, 1 otherwise
  at::Tensor weight = {};                      // [H,D], additive only
  at::Tensor kv_lengths = {};                  // [B] int64, keys of each element; undefined: all S
  at::Tensor sinks = {};                       // [H]: one more key a head, without a value
  int64_t top_k = 0;                           // > 0: only keys with the row's top_k largest scores
  double dropout_p = 0;                        // in [0, 1)
  std::optional<int64_t> seed = std::nullopt;  // of dropout; none: torch's generator draws one
  at::Tensor drawn_seed = {};                  // [] int64, in place of seed: known at run time
};

// q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv] -> out [B,H,T,Dv] in q's dtype. float32, bfloat16 and
// float16 run the kernels, float64 the scalar reference. Throws c10::Error naming the argument,
// expected and got.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options = {});

// The same with lse [B,H,T] (natural logarithm; float64 for float64 inputs, else float32),
// differentiable.
std::tuple<at::Tensor, at::Tensor> attention_with_lse(const at::Tensor& q, const at::Tensor& k,
                                                      const at::Tensor& v,
                                                      const AttentionOptions& options = {});

// Sequences one after the other: element b is rows [cu_seqlens_q[b], cu_seqlens_q[b + 1]) of
// q [sum T,H,D], and likewise of k [sum S,Hkv,D] and v [sum S,Hkv,Dv]; cu_seqlens [B+1] int32 or
// int64, from 0 to the total. -> out [sum T,H,Dv]; lse [H,sum T]. t and s count within an element.
at::Tensor varlen_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k,
                            const AttentionOptions& options = {});
std::tuple<at::Tensor, at::Tensor> varlen_attention_with_lse(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens_q,
    const at::Tensor& cu_seqlens_k, const AttentionOptions& options = {});

// The matrix itself before dropout, [B,H,T,S] in lse's dtype: recomputed for those who look, never
// part of training. No gradient.
at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options = {});

// out, lse, then for each of `want`, without the matrix and without a gradient:
//   "entropy" [B,H,T] in nats; "max" [B,H,T]; "top:n" keys [B,H,T,n] int64 and weights [B,H,T,n];
//   "column_sums" [B,H,S], of rows weighted by row_weights [B,H,T] where defined;
//   "diagonal:d" [B,H,T], the weight of key t + d; "blocks:n" [B,H,ceil(T/n),ceil(S/n)], means.
std::vector<at::Tensor> attention_stats(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const std::vector<std::string>& want,
                                        const at::Tensor& row_weights = {},
                                        const AttentionOptions& options = {});

// Which keys the loss would gain from: sum_t w[t] max(0, p[t,s] dP[t,s]) [B,H,S] with w row_weights
// [B,H,T] or 1, p the weights and dP the loss's gradient to them; out and lse as attention gave
// them, d_out the gradient of out. No gradient.
at::Tensor attention_gradient_column_sums(const at::Tensor& q, const at::Tensor& k,
                                          const at::Tensor& v, const at::Tensor& out,
                                          const at::Tensor& lse, const at::Tensor& d_out,
                                          const at::Tensor& row_weights = {},
                                          const AttentionOptions& options = {});

}  // namespace heed
