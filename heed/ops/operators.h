// torch.ops.heed as C++ calls: every one goes through the dispatcher, so that autograd and tracing
// see it.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "heed/ops/attention.h"

namespace heed::operators {

// What the backward needs of the forward, and the gradients that came in.
struct BackwardInputs {
  at::Tensor q, k, v, out, lse;
  at::Tensor d_out;
  at::Tensor d_lse;  // may be undefined
};

std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionOptions& options);

// d_q, d_k, d_v, d_weight; d_weight is empty, [0], unless the score is additive.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attention_backward(
    const BackwardInputs& inputs, const AttentionOptions& options);

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options);

}  // namespace heed::operators
