// Vectors of floats at the width of the instruction set this file is compiled for, over the
// compiler's vector extensions. Everything is local to the including file.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HEED_INLINE inline __attribute__((always_inline))
#define HEED_NOINLINE __attribute__((noinline))
#define HEED_UNROLL _Pragma("GCC unroll 16")

namespace heed {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Vec = float __attribute__((vector_size(kLanes * 4)));
using VecInt = int32_t __attribute__((vector_size(kLanes * 4)));
// A typedef: clang ignores `aligned` in an alias declaration.
typedef float UnalignedVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr float kMinusInfinity = -__builtin_inff();

HEED_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
HEED_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
HEED_INLINE Vec broadcast(float x) { return x - Vec{}; }
HEED_INLINE VecInt broadcast(int32_t x) { return x - VecInt{}; }
HEED_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }

HEED_INLINE VecInt lane_numbers() {
  VecInt r{};
  for (int i = 0; i < kLanes; ++i) r[i] = i;
  return r;
}

// The greater and the lesser; `b` where either is NaN, as the instruction has it. (Masked forms
// with every lane on: g++ 12 raises a false alarm about the plain ones.)
#if defined(__AVX512F__)
HEED_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
HEED_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
#elif defined(__AVX2__)
HEED_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
HEED_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
HEED_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm_max_ps((__m128)a, (__m128)b); }
HEED_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm_min_ps((__m128)a, (__m128)b); }
#else
HEED_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
HEED_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
#endif

// Whether some lane of a comparison's result holds.
HEED_INLINE bool any(VecInt mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  int32_t all = 0;
  for (int i = 0; i < kLanes; ++i) all |= mask[i];
  return all != 0;
#endif
}

// 1 / x within 2 ulp for normal x of moderate size.
HEED_INLINE Vec reciprocal(Vec x) {
#if defined(__AVX512F__)  // a zmm division holds its unit for 16 cycles; a Newton step costs two
  const Vec r = (Vec)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return fma(r, 1.0f - x * r, r);
#else
  return 1.0f / x;
#endif
}

// The first n < kLanes elements; the rest are zero and not touched.
HEED_INLINE Vec load_first(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#else
  Vec r{};
  for (int i = 0; i < kLanes; ++i) r[i] = i < n ? p[i] : 0.0f;
  return r;
#endif
}
HEED_INLINE void store_first(float* p, Vec v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  for (int i = 0; i < kLanes; ++i) {
    if (i < n) p[i] = v[i];
  }
#endif
}

// Lane j of the result is lane index[j] of a, or of b where index[j] >= kLanes.
HEED_INLINE Vec shuffle(Vec a, Vec b, VecInt index) {
#if defined(__clang__)
  Vec r{};
  for (int j = 0; j < kLanes; ++j) r[j] = index[j] < kLanes ? a[index[j]] : b[index[j] - kLanes];
  return r;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// Lane i of the result is the sum of v[i]'s lanes. Each round halves the vectors: with Step s, v[i]
// and v[i + s] are folded into one whose runs of s lanes belong to them in turn.
template <int Step = kLanes / 2>
HEED_INLINE Vec fold(Vec* v) {
  if constexpr (Step == 0) {
    return v[0];
  } else {
    VecInt even{}, odd{};
    for (int j = 0; j < kLanes; ++j) {
      const int run = j / Step, source = (run & 1) * kLanes + (run / 2) * 2 * Step + j % Step;
      even[j] = source;
      odd[j] = source + Step;
    }
    HEED_UNROLL for (int i = 0; i < Step; ++i) {
      v[i] = shuffle(v[i], v[i + Step], even) + shuffle(v[i], v[i + Step], odd);
    }
    return fold<Step / 2>(v);
  }
}

// One number of all lanes: halves are folded onto one another, which is log2(kLanes) steps long.
template <int Step = kLanes / 2, class Join>
HEED_INLINE float join_lanes(Vec v, const Join& join) {
  if constexpr (Step == 0) {
    return v[0];
  } else {
    const VecInt other = (lane_numbers() + Step) & (kLanes - 1);
    return join_lanes<Step / 2>(join(v, shuffle(v, v, other)), join);
  }
}
HEED_INLINE float sum_lanes(Vec v) {
  return join_lanes(
      v, [](Vec a, Vec b) __attribute__((always_inline)) { return a + b; });
}
HEED_INLINE float max_lanes(Vec v) {
  return join_lanes(
      v, [](Vec a, Vec b) __attribute__((always_inline)) { return max(a, b); });
}

// Transposes kLanes x kLanes in place: exchanges the off-diagonal blocks of ever smaller squares.
template <int Step = kLanes / 2>
HEED_INLINE void transpose(Vec* v) {
  if constexpr (Step >= 1) {
    VecInt low{}, high{};
    for (int j = 0; j < kLanes; ++j) {
      low[j] = (j & Step) ? kLanes + (j ^ Step) : j;
      high[j] = (j & Step) ? kLanes + j : j + Step;
    }
    HEED_UNROLL for (int i = 0; i < kLanes; ++i) {
      if ((i & Step) == 0) {
        const Vec a = v[i], b = v[i + Step];
        v[i] = shuffle(a, b, low);
        v[i + Step] = shuffle(a, b, high);
      }
    }
    transpose<Step / 2>(v);
  }
}

HEED_INLINE int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace
}  // namespace heed
