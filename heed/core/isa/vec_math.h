// exp2, log2 and tanh on vectors. NaN goes in and comes out; nothing here makes a denormal.
#pragma once

#include "heed/core/isa/vec.h"

namespace heed {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

// 2^x within 1 ulp for kLeast <= x < 128; exactly 1 at 0, exactly 0 below kLeast and at -inf.
// Polynomial: minimax on [-0.5, 0.5] among those that are 1 at 0, off by 2e-9.
template <int kLeast = -126>
HEED_INLINE Vec exp2(Vec x) {
#if defined(__AVX512F__)
  const Vec f = (Vec)_mm512_maskz_reduce_ps(0xffff, (__m512)x, 0);  // 0 at -inf
#else
  // Adding this rounds to an integer and leaves it, biased like an exponent, in the low bits.
  constexpr float kRound = 12582912.0f + 127.0f;
  if constexpr (kLeast == -126) {
    x = max(broadcast(-127.0f), x);
  } else {
    x = x < static_cast<float>(kLeast) ? broadcast(-127.0f) : x;
  }
  const Vec biased = x + kRound;
  const Vec f = x - (biased - kRound);
#endif
  Vec p = broadcast(0x1.416b5ep-13f);
  p = fma(p, f, broadcast(0x1.5f082ep-10f));
  p = fma(p, f, broadcast(0x1.3b2de0p-7f));
  p = fma(p, f, broadcast(0x1.c6af7cp-5f));
  p = fma(p, f, broadcast(0x1.ebfbdcp-3f));
#if defined(__FMA__)
  p = fma(p, f, broadcast(0x1.62e430p-1f));
  p = fma(p, f, broadcast(1.0f));
#else  // the rounding of a product would cost the last ulp: what 1 + linear loses is added again
  const Vec linear = f * 0x1.62e430p-1f, high = 1.0f + linear;
  p = high + ((linear - (high - 1.0f)) + f * (f * p));
#endif
#if defined(__AVX512F__)
  // Below -126 a zero: denormals would slow every operation that meets them.
  const __m512 least = _mm512_set1_ps(static_cast<float>(kLeast));
  const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, least, _CMP_NLT_UQ);
  return (Vec)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)(x - f));
#else
  const VecInt scale = (VecInt)biased << 23;  // 0 at -127; a product, so that NaN stays NaN
  return p * (Vec)scale;
#endif
}

// 2^x for weights against their row's origin: what is far below the row's greatest is 0 already
// where its product with a value of moderate size could be a denormal, for one costs as much as
// many keys. Steep biases such as ALiBi's take every row through there.
HEED_INLINE Vec exp2_weight(Vec x) { return exp2<-100>(x); }

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
