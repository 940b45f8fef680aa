// exp2, tanh and log2 of every instruction set against the C library in double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "tests/core/each_isa.h"

namespace heed {

#if defined(__x86_64__)
void probe_v2(int which, const float* x, float* y, int64_t n);
void probe_v3(int which, const float* x, float* y, int64_t n);
void probe_v4(int which, const float* x, float* y, int64_t n);
#endif

namespace testing {
namespace {

enum Function { kExp2, kTanh, kLog2, kExp2Weight };

std::vector<float> evaluate(Function function, std::vector<float> x) {
  constexpr size_t kWidest = 16;
  const size_t n = x.size();
  x.resize((n + kWidest - 1) / kWidest * kWidest, 1.0f);
  std::vector<float> y(x.size());
  const auto size = static_cast<int64_t>(x.size());
#if defined(__x86_64__)
  if (isa() == Isa::kV2) probe_v2(function, x.data(), y.data(), size);
  if (isa() == Isa::kV3) probe_v3(function, x.data(), y.data(), size);
  if (isa() == Isa::kV4) probe_v4(function, x.data(), y.data(), size);
#endif
  y.resize(n);
  return y;
}

template <class Body>
void for_each_vector_isa(Body body) {
  for_each_isa([&] {
    if (isa() != Isa::kRef) body();
  });
}

// Every `step`-th float of [low, high], by their bits, so that all magnitudes are seen alike.
std::vector<float> floats(float low, float high, uint32_t step) {
  std::vector<float> all;
  auto bits = [](float x) { return __builtin_bit_cast(uint32_t, x); };
  for (uint32_t i = bits(low); i <= bits(high); i += step) {
    all.push_back(__builtin_bit_cast(float, i));
  }
  return all;
}

// The distance of y from exp2(x) in units of the last place of a float there.
double exp2_error(float x, float y) {
  const double want = std::exp2(static_cast<double>(x));
  return std::abs(y - want) / std::ldexp(1.0, std::ilogb(want) - 23);
}

// Every 977th float that a softmax can give it, or all of them where HEED_EXHAUSTIVE is set.
TEST(VecMath, Exp2IsWithinOneUlp) {
  const uint32_t step = std::getenv("HEED_EXHAUSTIVE") != nullptr ? 1 : 977;
  constexpr uint32_t kRun = 1 << 20;  // floats evaluated at once
  const uint32_t end = __builtin_bit_cast(uint32_t, 126.0f);
  for_each_vector_isa([&] {
    double worst = 0;
    for (uint64_t first = 0; first <= end; first += uint64_t{kRun} * step) {
      std::vector<float> x;
      for (uint64_t bits = first; bits <= end && x.size() < kRun; bits += step) {
        x.push_back(__builtin_bit_cast(float, static_cast<uint32_t>(bits)));
      }
      for (float sign : {1.0f, -1.0f}) {
        for (float& each : x) each = std::copysign(each, sign);
        const std::vector<float> y = evaluate(kExp2, x);
        for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, exp2_error(x[i], y[i]));
      }
    }
    EXPECT_LE(worst, 1.0);
  });
}

TEST(VecMath, Exp2AtItsEnds) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float payload = __builtin_bit_cast(float, 0x7fc001ffu);
  for_each_vector_isa([&] {
    const std::vector<float> y =
        evaluate(kExp2, {0.0f, -0.0f, -INFINITY, -127.0f, -1e30f, nan, payload, -nan});
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 1.0f);
    for (int i : {2, 3, 4}) EXPECT_EQ(y[i], 0.0f) << i;
    for (int i : {5, 6, 7}) EXPECT_TRUE(std::isnan(y[i])) << i;
  });
}

// Weights are 2^x to the bit, but nothing where their products could be denormal.
TEST(VecMath, WeightsEndFarAboveTheDenormals) {
  constexpr float kLeast = -100.0f;
  std::vector<float> x = floats(1e-30f, 126.0f, 977);
  for (float& each : x) each = -each;
  x.insert(x.end(), {0.0f, 5.0f, kLeast, std::nextafter(kLeast, -INFINITY), -INFINITY});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_each_vector_isa([&] {
    const std::vector<float> want = evaluate(kExp2, x), y = evaluate(kExp2Weight, x);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], x[i] < kLeast ? 0.0f : want[i]) << x[i];
    EXPECT_TRUE(std::isnan(evaluate(kExp2Weight, {nan})[0]));
  });
}

TEST(VecMath, TanhIsAccurateAlsoNearZero) {
  std::vector<float> x = floats(1e-30f, 100.0f, 977);
  const size_t half = x.size();
  for (size_t i = 0; i < half; ++i) x.push_back(-x[i]);
  for_each_vector_isa([&] {
    const std::vector<float> y = evaluate(kTanh, x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, std::abs(y[i] / std::tanh(static_cast<double>(x[i])) - 1));
    }
    EXPECT_LE(worst, 5e-7);
  });
}

TEST(VecMath, TanhAtItsEnds) {
  for_each_vector_isa([&] {
    const std::vector<float> y = evaluate(kTanh, {0.0f, INFINITY, -INFINITY, NAN});
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_NEAR(y[1], 1.0f, 5e-7);
    EXPECT_NEAR(y[2], -1.0f, 5e-7);
    EXPECT_TRUE(std::isnan(y[3]));
  });
}

TEST(VecMath, Log2IsAccurate) {
  const std::vector<float> x = floats(1e-30f, 1e30f, 977);
  for_each_vector_isa([&] {
    const std::vector<float> y = evaluate(kLog2, x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::log2(static_cast<double>(x[i]));
      worst = std::max(worst, std::abs(y[i] - want) / std::max(1.0, std::abs(want)));
    }
    EXPECT_LE(worst, 2e-7);
    EXPECT_EQ(evaluate(kLog2, {1.0f})[0], 0.0f);
    EXPECT_TRUE(std::isnan(evaluate(kLog2, {NAN})[0]));
  });
}

}  // namespace
}  // namespace testing
}  // namespace heed
