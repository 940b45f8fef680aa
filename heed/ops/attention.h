// Attention on torch tensors: one operator, `heed::attention`, with autograd, for C++ and Python.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "heed/core/attention.h"

namespace heed {

struct AttentionOptions {
  Score score = Score::kDot;
  Causal causal = Causal::kNone;
  std::optional<double> scale = std::nullopt;  // default: 1 / sqrt(D) for dot, 1 for additive
  at::Tensor weight = {};                      // [H,D], additive only
  at::Tensor kv_lengths = {};                  // [B] int64, keys of each element; undefined: all S
};

// q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv] -> out [B,H,T,Dv] in q's dtype. float32 runs the
// kernels, float64 the scalar reference. Throws c10::Error naming the argument, expected and got.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options = {});

// The same with lse [B,H,T] (natural logarithm; float32, or float64 for float64 inputs),
// differentiable.
std::tuple<at::Tensor, at::Tensor> attention_with_lse(const at::Tensor& q, const at::Tensor& k,
                                                      const at::Tensor& v,
                                                      const AttentionOptions& options = {});

// The matrix itself, [B,H,T,S]: recomputed for those who look, never part of training. No gradient.
at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options = {});

}  // namespace heed
