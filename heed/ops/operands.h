// Tensors as the core wants them: what every CPU kernel starts with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <memory>
#include <optional>

#include "heed/core/attention.h"
#include "heed/core/program/bound.h"
#include "heed/ops/checks.h"
#include "heed/ops/layout.h"
#include "heed/ops/operators.h"
#include "heed/ops/results.h"

namespace heed {

// Draws a missing seed of dropout from torch's generator.
void draw_seed(AttentionOptions& options);

// Says in other operations what the core has no word for: "cosine" is the dot product of unit rows,
// and a missing seed of dropout is drawn.
void spell_out(const char* op, operators::Inputs& inputs, AttentionOptions& options);

// Owned for as long as the views on them live.
struct Operands {
  Shape shape;               // of packed sequences, T and S are the longest
  operators::Inputs inputs;  // rows contiguous, offsets dense int64
  AttentionOptions options;  // tensors dense
  Dropout dropout;
  std::unique_ptr<const program::BoundProgram> program;
};

// Of arguments that were checked; the values of lengths and offsets are checked besides.
Operands operands_of(const char* op, const Checked& checked, operators::Inputs inputs);

template <class E>
const E* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const E*>(tensor.const_data_ptr()) : nullptr;
}

template <class E>
E* mutable_data(const at::Tensor& tensor) {
  return static_cast<E*>(tensor.mutable_data_ptr());
}

template <class E>
AttentionInputs<E> core_inputs(const Operands& operands) {
  const AttentionOptions& options = operands.options;
  const operators::Inputs& inputs = operands.inputs;
  const int64_t D = operands.shape.D;
  const bool by_root = options.score == Score::kDot && D > 0;
  const double scale =
      options.scale.value_or(by_root ? 1 / std::sqrt(static_cast<double>(D)) : 1.0);
  return {.shape = operands.shape,
          .score = options.score,
          .causal = options.causal,
          .window = options.window,
          .scale = static_cast<RealOf<E>>(scale),
          .q = const_view<E>(inputs.q),
          .k = const_view<E>(inputs.k),
          .v = const_view<E>(inputs.v),
          .weight = data_or_null<E>(options.weight),
          .kv_lengths = data_or_null<int64_t>(options.kv_lengths),
          .packing = {.q_offsets = data_or_null<int64_t>(inputs.cu_seqlens_q),
                      .k_offsets = data_or_null<int64_t>(inputs.cu_seqlens_k)},
          .program = operands.program.get(),
          .sinks = data_or_null<E>(options.sinks),
          .top_k = options.top_k,
          .dropout = operands.dropout};
}

// Calls body(E()) with the core's name for the type of `tensor`, one of those the checks let pass.
template <class Body>
void for_element(const at::Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return body(float());
    case at::kBFloat16:
      return body(BFloat16());
    case at::kHalf:
      return body(Float16());
    default:
      return body(double());
  }
}

}  // namespace heed
