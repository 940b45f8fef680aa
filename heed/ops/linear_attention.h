// Linear attention on torch tensors: the operator `heed::linear_attention`, with autograd, for C++
// and Python.
#pragma once

#include <ATen/core/Tensor.h>

#include "heed/core/linear_attention.h"

namespace heed {

struct LinearAttentionOptions {
  FeatureMap feature_map = FeatureMap::kElu;
  bool causal = false;  // key s is seen by queries t >= s
};

// q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv] -> out [B,H,T,Dv] in q's dtype: float32, bfloat16 and
// float16 run the kernels, float64 the scalar reference. A row without weight gives 0.
// Differentiable. Throws c10::Error naming the argument, expected and got.
at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const LinearAttentionOptions& options = {});

}  // namespace heed
