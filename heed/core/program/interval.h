// Interval arithmetic: what values an operation can give when its arguments lie in intervals.
#pragma once

#include <cstdint>
#include <limits>

#include "heed/core/program/graph.h"

namespace heed::program {

// Every value in [low, high], and perhaps NaN. Booleans are 0 and 1.
struct Interval {
  double low, high;
  bool maybe_nan = false;
};

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr Interval kAnything{-kInfinity, kInfinity, true};

inline bool is_always(const Interval& x, double value) {
  return x.low == value && x.high == value && !x.maybe_nan;
}

// Indices b, h exactly; t and s from first to last, both included.
struct Box {
  int64_t b, h, t_first, t_last, s_first, s_last;
};

Interval hull(const Interval& a, const Interval& b);

// What an operation of result type `type` gives; not for leaves and lookups. Sound for the
// interpreter in double (scalar.h); exact for integers where the operation is monotone.
Interval apply(Op op, Type type, const Interval& a, const Interval& b, const Interval& c);

}  // namespace heed::program
