// Elements as doubles and back, rounded once, to nearest even. For the reference and the tests: the
// kernels have vector forms of their own.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "heed/core/element.h"

namespace heed::ref {

// x to the nearest number of a format with `mantissa` bits behind the point and exponents from
// `smallest` up; beyond `largest` exponent: infinity.
static inline double rounded(double x, int mantissa, int smallest, int largest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::ilogb(x) < smallest ? smallest : std::ilogb(x);
  const double y =
      std::ldexp(std::nearbyint(std::ldexp(x, mantissa - exponent)), exponent - mantissa);
  return std::abs(y) < std::ldexp(1.0, largest + 1)
             ? y
             : std::copysign(std::numeric_limits<double>::infinity(), x);
}

static inline double to_double(double x) { return x; }
static inline double to_double(float x) { return x; }
static inline double to_double(BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
static inline double to_double(Float16 x) {
  const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  const double sign = x.bits >> 15 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  if (exponent < 31) return sign * std::ldexp(1024 + mantissa, exponent - 25);
  return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                       : std::numeric_limits<double>::quiet_NaN();
}

static inline void from_double(double x, double& to) { to = x; }
static inline void from_double(double x, float& to) { to = static_cast<float>(x); }
static inline void from_double(double x, BFloat16& to) {
  const float y = static_cast<float>(rounded(x, 7, -126, 127));
  const auto upper = static_cast<uint16_t>(std::bit_cast<uint32_t>(y) >> 16);
  to.bits = std::isnan(x) ? upper | 0x40 : upper;
}
static inline void from_double(double x, Float16& to) {
  const double y = std::abs(rounded(x, 10, -14, 15));
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(y)) {
    to.bits = sign | 0x7e00;
  } else if (std::isinf(y)) {
    to.bits = sign | 0x7c00;
  } else {
    // Denormals share the smallest exponent, without the leading bit.
    const int exponent = y < std::ldexp(1.0, -14) ? -14 : std::ilogb(y);
    const int units = static_cast<int>(std::ldexp(y, 10 - exponent));
    to.bits = static_cast<uint16_t>(sign | ((exponent + 14) * 1024 + units));
  }
}
template <class E>
static inline E from_double(double x) {
  E to;
  from_double(x, to);
  return to;
}

}  // namespace heed::ref
