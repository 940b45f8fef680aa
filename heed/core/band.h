// Which keys a query may see by causal, window and lengths: a band around a diagonal.
#pragma once

#include <cstdint>

#include "heed/core/attention.h"

namespace heed {

// The query at t sees keys [max(0, t + left), min(limit, t + right + 1)): both ends never fall as t
// grows.
struct Band {
  int64_t left, right, limit;
};

inline constexpr int64_t kUnbounded = int64_t{1} << 40;  // farther than any index

// Static, not inline: a kernel file compiled for AVX-512 must not lend its copy to the program.
static inline int64_t first_key(const Band& band, int64_t t) {
  const int64_t first = t + band.left;
  return first < 0 ? 0 : first;
}
static inline int64_t end_key(const Band& band, int64_t t) {
  const int64_t end = t + band.right + 1;
  return end < 0 ? 0 : end > band.limit ? band.limit : end;
}

// Whether the first key moves with the query.
static inline bool is_window(const Band& band) { return band.left > -kUnbounded / 2; }

// T_b and S_b of an element.
struct Lengths {
  int64_t T, S;
};
template <class Element>
static inline Lengths lengths_of(const AttentionInputs<Element>& inputs, int64_t b) {
  if (inputs.packing.q_offsets != nullptr) {
    return {inputs.packing.q_offsets[b + 1] - inputs.packing.q_offsets[b],
            inputs.packing.k_offsets[b + 1] - inputs.packing.k_offsets[b]};
  }
  return {inputs.shape.T, inputs.kv_lengths == nullptr ? inputs.shape.S : inputs.kv_lengths[b]};
}

template <class Element>
static inline Band band_of(const AttentionInputs<Element>& inputs, int64_t b) {
  const Lengths own = lengths_of(inputs, b);
  const int64_t corner = inputs.causal == Causal::kBottomRight ? own.S - own.T : 0;
  const Window& window = inputs.window;
  int64_t right = window.right < 0 ? kUnbounded : corner + window.right;
  if (inputs.causal != Causal::kNone && right > corner) right = corner;
  return {
      .left = window.left < 0 ? -kUnbounded : corner - window.left, .right = right, .limit = own.S};
}

}  // namespace heed
