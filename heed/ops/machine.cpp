// Measures the multiply-add peak and the memory's read speed.
#include "heed/ops/machine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

#include "heed/core/isa.h"

namespace heed {
namespace {

// Enough independent chains to hide a multiply-add's latency: 4 cycles, two started in each.
constexpr int kChains = 12;
// Many short runs (1-2 ms): on a busy machine one of them is left alone.
constexpr int64_t kRounds = 250'000;
constexpr int kPeakRepeats = 40;
constexpr int kReadRepeats = 8;
// Beyond any last-level cache that a few cores share.
constexpr int64_t kReadBytes = int64_t{1} << 29;

std::atomic<double> observed;  // results end here, so that no loop is dropped

template <class Real, int kBytes>
[[gnu::always_inline]] inline double multiply_add(int64_t rounds) {
  typedef Real Vector __attribute__((vector_size(kBytes)));
  constexpr int kLanes = kBytes / sizeof(Real);
  Vector sums[kChains], factor, addend;
  for (int lane = 0; lane < kLanes; ++lane) {
    factor[lane] = Real(0.999);
    addend[lane] = Real(0.001) * static_cast<Real>(lane + 1);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = addend * static_cast<Real>(i + 1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + addend;
  }
  double total = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) total += static_cast<double>(sums[i][lane]);
  }
  return total;
}

template <class Real>
double multiply_add_v2(int64_t rounds) {
  return multiply_add<Real, 16>(rounds);
}

#if defined(__x86_64__)
template <class Real>
__attribute__((target("avx2,fma"))) double multiply_add_v3(int64_t rounds) {
  return multiply_add<Real, 32>(rounds);
}

template <class Real>
__attribute__((target("avx512f"))) double multiply_add_v4(int64_t rounds) {
  return multiply_add<Real, 64>(rounds);
}
#endif

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) double multiply_add_pairs(int64_t rounds) {
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f803f80));
  __m512 sums[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], ones, ones);
  }
  double total = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) total += static_cast<double>(sums[i][0]);
  return total;
}
#endif

struct Loop {
  double (*run)(int64_t rounds);
  int lanes;
};

template <class Real>
Loop widest_loop() {
#if defined(__x86_64__)
  if (isa_runs_here(Isa::kV4)) return {multiply_add_v4<Real>, 64 / sizeof(Real)};
  if (isa_runs_here(Isa::kV3)) return {multiply_add_v3<Real>, 32 / sizeof(Real)};
#endif
  return {multiply_add_v2<Real>, 16 / sizeof(Real)};
}

// Shortest of `repeats` times of body(thread), run on every thread at once.
template <class Body>
double best_seconds(int repeats, int threads, const Body& body) {
  using Clock = std::chrono::steady_clock;
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Clock::now();
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) body(thread);
    });
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

// Two products a lane, each of a pair.
Loop pair_loop() {
#if defined(__x86_64__)
  if (isa_runs_here(Isa::kV4Bf16)) return {multiply_add_pairs, 2 * 16};
#endif
  return {nullptr, 0};
}

double measured_peak(const Loop& loop) {
  const int threads = at::get_num_threads();
  const double seconds =
      best_seconds(kPeakRepeats, threads, [&](int64_t) { observed = loop.run(kRounds); });
  return 2.0 * loop.lanes * kChains * static_cast<double>(kRounds) * threads / seconds;
}

uint64_t sum_of(const uint64_t* begin, const uint64_t* end) {
  uint64_t sums[8] = {};
  for (; begin + 8 <= end; begin += 8) {
    for (int i = 0; i < 8; ++i) sums[i] += begin[i];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

double peak_flops(at::ScalarType dtype) {
  if (dtype == at::kFloat) return measured_peak(widest_loop<float>());
  if (dtype == at::kDouble) return measured_peak(widest_loop<double>());
  TORCH_CHECK(dtype == at::kBFloat16, "[peak_flops] dtype: expected float32, float64 or bfloat16, ",
              "got ", c10::getDtypeNames(dtype).first);
  TORCH_CHECK(pair_loop().run != nullptr,
              "[peak_flops] dtype: bfloat16 needs AVX512-BF16, which this processor lacks");
  return measured_peak(pair_loop());
}

double read_bandwidth() {
  const std::vector<uint64_t> buffer(kReadBytes / sizeof(uint64_t), 1);
  const int threads = at::get_num_threads();
  const int64_t share = static_cast<int64_t>(buffer.size()) / threads;
  const double seconds = best_seconds(kReadRepeats, threads, [&](int64_t thread) {
    const uint64_t* begin = buffer.data() + thread * share;
    observed = static_cast<double>(sum_of(begin, begin + share));
  });
  return static_cast<double>(share * threads) * sizeof(uint64_t) / seconds;
}

}  // namespace heed
