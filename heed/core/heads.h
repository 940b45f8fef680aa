// One head of a call, as kernels take it.
#pragma once

#include "heed/core/attention.h"
#include "heed/core/isa/kernels.h"
#include "heed/core/visible.h"

namespace heed {

// A null view has no rows to point at.
inline Rows rows(const View<const float>& view, int64_t b, int64_t h) {
  return {view ? view.row(b, h, 0) : nullptr, view.stride_t};
}
inline MutableRows rows(const View<float>& view, int64_t b, int64_t h) {
  return {view ? view.row(b, h, 0) : nullptr, view.stride_t};
}

inline HeadInputs head_inputs(const AttentionInputs<float>& inputs, int64_t b, int64_t h) {
  const Shape& shape = inputs.shape;
  const int64_t kv_head = h / shape.group();
  return {
      .T = shape.T,
      .S = shape.S,
      .D = shape.D,
      .Dv = shape.Dv,
      .score = inputs.score,
      .scale = inputs.scale,
      .visible = visible_of(inputs, b),
      .q = rows(inputs.q, b, h),
      .k = rows(inputs.k, b, kv_head),
      .v = rows(inputs.v, b, kv_head),
      .weight = inputs.weight == nullptr ? nullptr : inputs.weight + h * shape.D,
  };
}

inline HeadOutputs head_outputs(const Shape& shape, const AttentionOutputs<float>& outputs,
                                int64_t b, int64_t h) {
  return {
      .out = rows(outputs.out, b, h),
      .lse = outputs.lse + (b * shape.H + h) * shape.T,
      .weights = rows(outputs.weights, b, h),
  };
}

}  // namespace heed
