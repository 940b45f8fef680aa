// One head of a call, as kernels take it.
#pragma once

#include <limits>
#include <vector>

#include "heed/core/attention.h"
#include "heed/core/dropout.h"
#include "heed/core/isa/kernels.h"
#include "heed/core/program/bound.h"
#include "heed/core/ref/convert.h"

namespace heed {

// Rows of a packed element start at its offset.
template <class E>
Rows rows(const View<const E>& view, int64_t b, int64_t h, const int64_t* offsets) {
  if (!view) return {nullptr, view.stride_t};
  return {view.row(b, h, offsets == nullptr ? 0 : offsets[b]), view.stride_t};
}
template <class E>
MutableRows rows(const View<E>& view, int64_t b, int64_t h, const int64_t* offsets) {
  if (!view) return {nullptr, view.stride_t};
  return {view.row(b, h, offsets == nullptr ? 0 : offsets[b]), view.stride_t};
}

// Where the rows of head (b, h) begin in a [B,H,T] array, or [H, total] where packed.
template <class E>
int64_t first_row(const AttentionInputs<E>& inputs, int64_t b, int64_t h) {
  const int64_t* offsets = inputs.packing.q_offsets;
  if (offsets != nullptr) return h * offsets[inputs.shape.B] + offsets[b];
  return (b * inputs.shape.H + h) * inputs.shape.T;
}

template <class E>
int64_t total_rows(const AttentionInputs<E>& inputs) {
  const Shape& shape = inputs.shape;
  const int64_t* offsets = inputs.packing.q_offsets;
  return shape.H * (offsets != nullptr ? offsets[shape.B] : shape.B * shape.T);
}

// The mechanism that is left when a program never reads the product.
template <class E>
Score score_of(const AttentionInputs<E>& inputs) {
  const bool reads = inputs.program == nullptr || inputs.program->program().reads_dot();
  return reads ? inputs.score : Score::kNone;
}

template <class E>
HeadInputs head_inputs(const AttentionInputs<E>& inputs, int64_t b, int64_t h,
                       const float* thresholds = nullptr) {
  const Shape& shape = inputs.shape;
  const Packing& packing = inputs.packing;
  const bool packed = packing.q_offsets != nullptr;
  const int64_t kv_head = h / shape.group();
  const Lengths own = lengths_of(inputs, b);
  Band band = band_of(inputs, b);
  if (inputs.program != nullptr) band = inputs.program->tighten(band, b, h);
  const uint32_t dropped = dropout_threshold(inputs.dropout.p);
  return {
      .b = b,
      .h = h,
      .T = own.T,
      .S = packed ? own.S : shape.S,
      .D = shape.D,
      .Dv = shape.Dv,
      .element = ElementTraits<E>::kElement,
      .score = score_of(inputs),
      .scale = static_cast<float>(inputs.scale),
      .band = band,
      .program = inputs.program == nullptr ? nullptr : &inputs.program->code(),
      .q = rows(inputs.q, b, h, packing.q_offsets),
      .k = rows(inputs.k, b, kv_head, packing.k_offsets),
      .v = rows(inputs.v, b, kv_head, packing.k_offsets),
      .weight = inputs.weight == nullptr ? nullptr : inputs.weight + h * shape.D,
      .sink = inputs.sinks == nullptr ? -std::numeric_limits<float>::infinity()
                                      : static_cast<float>(ref::to_double(inputs.sinks[h])),
      .threshold = thresholds == nullptr ? nullptr : thresholds + first_row(inputs, b, h),
      .dropout = {.key = dropped == 0 ? 0 : dropout_key(inputs.dropout.seed, b, h),
                  .threshold = dropped,
                  .factor = static_cast<float>(dropout_factor(inputs.dropout.p))},
      .ahead = nullptr,
  };
}

// Any head of the widest element: what workspaces and tiles are sized by.
template <class E>
HeadInputs widest_head(const AttentionInputs<E>& inputs) {
  HeadInputs head = head_inputs(inputs, 0, 0);
  head.T = inputs.shape.T;
  head.S = inputs.shape.S;
  return head;
}

template <class E>
HeadOutputs head_outputs(const AttentionInputs<E>& inputs, const AttentionOutputs<E>& outputs,
                         int64_t b, int64_t h) {
  const int64_t row = first_row(inputs, b, h);
  const RowStatistics<float>& statistics = outputs.statistics;
  auto at = [&](float* data, int64_t width) { return data == nullptr ? data : data + row * width; };
  const View<float>& weights = outputs.weights;
  const int64_t* offsets = inputs.packing.q_offsets;
  const int64_t first = offsets == nullptr ? 0 : offsets[b];
  return {
      .out = rows(outputs.out, b, h, inputs.packing.q_offsets),
      .lse = outputs.lse + row,
      .weights = {weights ? weights.row(b, h, first) : nullptr, weights.stride_t},
      .entropy = at(statistics.entropy, 1),
      .max = at(statistics.max, 1),
      .top = statistics.top,
      .top_keys =
          statistics.top_keys == nullptr ? nullptr : statistics.top_keys + row * statistics.top,
      .top_weights = at(statistics.top_weights, statistics.top),
  };
}

// The keys in [begin, end) that queries [t0, t1) may see. Reuses its memory.
class SpanFinder {
 public:
  KeySpans find(const program::BoundProgram* program, const HeadInputs& head, int64_t t0,
                int64_t t1, int64_t begin, int64_t end) {
    const int64_t first = first_key(head.band, t0), last = end_key(head.band, t1 - 1);
    begin = begin > first ? begin : first;
    end = end < last ? end : last;
    spans_.clear();
    if (begin < end && (program == nullptr || !program->has_mask())) {
      spans_.push_back({begin, end, false});
    } else if (begin < end) {
      found_.clear();
      program->spans(head.b, head.h, t0, t1 - 1, begin, end, kStep, found_);
      for (const program::Span& span : found_) {
        spans_.push_back({span.begin, span.end, span.masked});
      }
    }
    return {spans_.data(), static_cast<int64_t>(spans_.size())};
  }

 private:
  static constexpr int64_t kStep = 64;  // the kernels' key tile
  std::vector<program::Span> found_;
  std::vector<KeySpan> spans_;
};

}  // namespace heed
