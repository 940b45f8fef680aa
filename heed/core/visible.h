// Which keys a query may see. Every mask of the core is a prefix: keys [0, n), n growing with t.
#pragma once

#include <cstdint>

#include "heed/core/attention.h"

namespace heed {

// The query at t sees keys [0, clamp(first + step * t, 0, limit)).
struct Visible {
  int64_t first, step, limit;
};

// Static, not inline: a kernel file compiled for AVX-512 must not lend its copy to the program.
static inline int64_t keys_seen(const Visible& visible, int64_t t) {
  const int64_t n = visible.first + visible.step * t;
  return n < 0 ? 0 : n > visible.limit ? visible.limit : n;
}

template <class Real>
static inline Visible visible_of(const AttentionInputs<Real>& inputs, int64_t b) {
  const int64_t length = inputs.kv_lengths == nullptr ? inputs.shape.S : inputs.kv_lengths[b];
  switch (inputs.causal) {
    case Causal::kTopLeft:
      return {.first = 1, .step = 1, .limit = length};
    case Causal::kBottomRight:
      return {.first = 1 + length - inputs.shape.T, .step = 1, .limit = length};
    case Causal::kNone:
      break;
  }
  return {.first = length, .step = 0, .limit = length};
}

}  // namespace heed
