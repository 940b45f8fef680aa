// The attention operators' arguments, batched and packed, brought to one form for each of their
// kernels (CPU, meta, autograd).
#pragma once

#include <ATen/core/List.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "heed/ops/operators.h"
#include "heed/ops/options.h"

namespace heed {

using OptionalTensor = std::optional<at::Tensor>;

inline operators::OutputGradients output_gradients(const at::Tensor& out, const at::Tensor& lse,
                                                   const at::Tensor& d_out,
                                                   const OptionalTensor& d_lse) {
  return {.out = out, .lse = lse, .d_out = d_out, .d_lse = d_lse.value_or(at::Tensor())};
}

// One for each table; none: no table's gradient is wanted.
using WantedTables = std::optional<c10::List<bool>>;
inline std::vector<bool> bools(const WantedTables& wanted) {
  return wanted ? wanted->vec() : std::vector<bool>();
}

// What the backward operators return.
using GradientTuple =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>>;
inline GradientTuple tuple_of(const operators::Gradients& gradients) {
  const auto& [d_q, d_k, d_v, d_weight, d_sinks, d_tables] = gradients;
  return {d_q, d_k, d_v, d_weight, d_sinks, d_tables};
}

// attend(op, words, inputs) -> (out, lse)
template <auto attend>
struct ForwardKernels {
  static std::tuple<at::Tensor, at::Tensor> batched(const OptionWords& words, const at::Tensor& q,
                                                    const at::Tensor& k, const at::Tensor& v) {
    return attend("attention", words, {.q = q, .k = k, .v = v});
  }

  static std::tuple<at::Tensor, at::Tensor> packed(const OptionWords& words, const at::Tensor& q,
                                                   const at::Tensor& k, const at::Tensor& v,
                                                   const at::Tensor& cu_seqlens_q,
                                                   const at::Tensor& cu_seqlens_k) {
    return attend(
        "varlen_attention", words,
        {.q = q, .k = k, .v = v, .cu_seqlens_q = cu_seqlens_q, .cu_seqlens_k = cu_seqlens_k});
  }
};

// differentiate(op, words, inputs, output gradients, wanted tables) -> gradients
template <auto differentiate>
struct BackwardKernels {
  static GradientTuple batched(const OptionWords& words, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                               const at::Tensor& d_out, const OptionalTensor& d_lse,
                               const WantedTables& wanted_tables) {
    return tuple_of(differentiate("attention_backward", words, {.q = q, .k = k, .v = v},
                                  output_gradients(out, lse, d_out, d_lse), bools(wanted_tables)));
  }

  static GradientTuple packed(const OptionWords& words, const at::Tensor& q, const at::Tensor& k,
                              const at::Tensor& v, const at::Tensor& cu_seqlens_q,
                              const at::Tensor& cu_seqlens_k, const at::Tensor& out,
                              const at::Tensor& lse, const at::Tensor& d_out,
                              const OptionalTensor& d_lse, const WantedTables& wanted_tables) {
    return tuple_of(differentiate(
        "varlen_attention_backward", words,
        {.q = q, .k = k, .v = v, .cu_seqlens_q = cu_seqlens_q, .cu_seqlens_k = cu_seqlens_k},
        output_gradients(out, lse, d_out, d_lse), bools(wanted_tables)));
  }
};

template <auto attend, auto differentiate>
void implement(torch::Library& m) {
  using Forward = ForwardKernels<attend>;
  using Backward = BackwardKernels<differentiate>;
  m.impl("attention", &Kernel<&Forward::batched>::call);
  m.impl("varlen_attention", &Kernel<&Forward::packed>::call);
  m.impl("attention_backward", &Kernel<&Backward::batched>::call);
  m.impl("varlen_attention_backward", &Kernel<&Backward::packed>::call);
}

}  // namespace heed
