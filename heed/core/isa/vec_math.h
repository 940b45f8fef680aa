// exp2, log2 and tanh on vectors. NaN goes in and comes out; nothing here makes a denormal.
#pragma once

#include "heed/core/isa/vec.h"

namespace heed {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

// 2^x for x < 128, within 2e-7 (relative); exactly 1 at 0, exactly 0 below -126.5 and at -inf.
// Polynomial: minimax on [-0.5, 0.5] among those that are 1 at 0, off by 9.2e-8.
HEED_INLINE Vec exp2(Vec x) {
  // Adding this rounds to an integer and leaves it, biased like an exponent, in the low bits.
  constexpr float kRound = 12582912.0f + 127.0f;
  x = max(broadcast(-127.0f), x);
  const Vec biased = x + kRound;
  const Vec f = x - (biased - kRound);
  Vec p = broadcast(1.326472724e-3f);
  p = fma(p, f, broadcast(9.671512676e-3f));
  p = fma(p, f, broadcast(5.550733743e-2f));
  p = fma(p, f, broadcast(2.402224208e-1f));
  p = fma(p, f, broadcast(6.931469776e-1f));
  p = fma(p, f, broadcast(1.0f));
  return p * (Vec)((VecInt)biased << 23);  // a product, not integer addition: NaN stays NaN
}

// log2(x) for normal x > 0, within 2e-7 (relative to the greater of it and 1).
// (m - 1) P(m - 1) on m in [sqrt 1/2, sqrt 2): minimax, off by 2.7e-8.
HEED_INLINE Vec log2(Vec x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;  // the bits of sqrt 1/2: where the mantissa wraps
  const VecInt from_half = (VecInt)x - kSqrtHalf;
  const Vec exponent = __builtin_convertvector(from_half >> 23, Vec);
  const Vec m = (Vec)((from_half & 0x007fffff) + kSqrtHalf) - 1.0f;
  Vec p = broadcast(0.125837066f);
  p = fma(p, m, broadcast(-0.2072697865f));
  p = fma(p, m, broadcast(0.215715607f));
  p = fma(p, m, broadcast(-0.2389448159f));
  p = fma(p, m, broadcast(0.2879162475f));
  p = fma(p, m, broadcast(-0.360703683f));
  p = fma(p, m, broadcast(0.480910643f));
  p = fma(p, m, broadcast(-0.7213473468f));
  p = fma(p, m, broadcast(1.442695004f));
  const Vec r = fma(p, m, exponent);
  return x == x ? r : x;
}

// tanh(x) within 5e-7 (relative), also near 0, where gradients live.
// x P(x^2) / Q(x^2): minimax on [0, 9.1], off by 2.3e-8; beyond, tanh rounds to 1.
HEED_INLINE Vec tanh(Vec x) {
  constexpr float kFlat = 9.1f;
  x = max(broadcast(-kFlat), min(broadcast(kFlat), x));
  const Vec y = x * x;
  Vec p = broadcast(1.31775378e-8f);
  p = fma(p, y, broadcast(2.04811984e-5f));
  p = fma(p, y, broadcast(3.48781184e-3f));
  p = fma(p, y, broadcast(1.33744761e-1f));
  p = fma(p, y, broadcast(1.0f));
  Vec q = broadcast(7.70405242e-7f);
  q = fma(q, y, broadcast(3.27292131e-4f));
  q = fma(q, y, broadcast(2.58473910e-2f));
  q = fma(q, y, broadcast(4.67077911e-1f));
  q = fma(q, y, broadcast(1.0f));
  return (x * p) * reciprocal(q);
}

}  // namespace
}  // namespace heed
