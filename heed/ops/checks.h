// The one place where arguments are checked; a message names the operator, the argument, what was
// expected and got.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <optional>
#include <string_view>

#include "heed/core/view.h"
#include "heed/ops/attention.h"

namespace heed {

// Shape as the checks find it: symbolic while torch.compile or torch.export traces.
struct SymShape {
  c10::SymInt B, H, Hkv, T, S, D, Dv;
  Shape concrete() const;
};

// The schema's words for AttentionOptions, checked, and back.
AttentionOptions parse_options(const char* op, std::string_view kind,
                               std::optional<std::string_view> causal, std::optional<double> scale,
                               const std::optional<at::Tensor>& weight,
                               const std::optional<at::Tensor>& kv_lengths);
const char* kind_name(Score score);
std::optional<std::string_view> causal_name(Causal causal);

// Checks dtypes, devices and sizes of what gives the scores; the result's Dv is 0.
SymShape check_scores(const char* op, const at::Tensor& q, const at::Tensor& k,
                      const AttentionOptions& options);

// The same, and the values.
SymShape check_inputs(const char* op, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const AttentionOptions& options);

// Checks what the backward takes besides: out and d_out [B,H,T,Dv], lse and d_lse [B,H,T].
struct GradientTensors {
  const at::Tensor& out;
  const at::Tensor& lse;
  const at::Tensor& d_out;
  const at::Tensor& d_lse;  // may be undefined
};
void check_gradients(const char* op, const SymShape& shape, const at::Tensor& q,
                     const GradientTensors& tensors);

// Checks the values: each length in [0, S]. Needs the data, so not for meta tensors.
void check_lengths(const char* op, const at::Tensor& kv_lengths, int64_t S);

}  // namespace heed
