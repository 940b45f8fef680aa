// torch.ops.heed.linear_attention and its backward as C++ calls: every one goes through the
// dispatcher, so that autograd and tracing see it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <tuple>

#include "heed/ops/linear_attention.h"

namespace heed {

FeatureMap parse_feature_map(const char* op, std::string_view word);

namespace operators {

at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const LinearAttentionOptions& options);

// (d_q, d_k, d_v); out as the forward gave it.
std::tuple<at::Tensor, at::Tensor, at::Tensor> linear_attention_backward(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& d_out, const LinearAttentionOptions& options);

}  // namespace operators
}  // namespace heed
