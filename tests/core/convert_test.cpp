// Conversion of half types: exact one way, and to the nearest number, even at ties, the other.
#include "heed/core/ref/convert.h"

#include <gtest/gtest.h>

#include <cmath>

namespace heed::ref {
namespace {

template <class Half>
class Convert : public ::testing::Test {};
using Halves = ::testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(Convert, Halves);

TEST(Convert, KnownNumbers) {
  EXPECT_EQ(to_double(BFloat16{0x3f80}), 1);
  EXPECT_EQ(to_double(BFloat16{0xc040}), -3);
  EXPECT_EQ(to_double(BFloat16{0x0001}), 0x1p-133);
  EXPECT_EQ(to_double(BFloat16{0x7f7f}), 0x1.fep127);
  EXPECT_EQ(to_double(Float16{0x3c00}), 1);
  EXPECT_EQ(to_double(Float16{0xc200}), -3);
  EXPECT_EQ(to_double(Float16{0x0001}), 0x1p-24);
  EXPECT_EQ(to_double(Float16{0x7bff}), 65504);
}

TYPED_TEST(Convert, EveryNumberComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const TypeParam half{static_cast<uint16_t>(bits)};
    const double x = to_double(half);
    const auto back = from_double<TypeParam>(x);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(to_double(back))) << bits;
    } else {
      EXPECT_EQ(back.bits, bits);
    }
  }
}

// Positive numbers and their negatives; neighbours' bits are neighbours, up to infinity.
TYPED_TEST(Convert, RoundsToNearestEven) {
  for (uint16_t bits = 0; std::isfinite(to_double(TypeParam{bits})); ++bits) {
    const auto above = static_cast<uint16_t>(bits + 1);
    const double low = to_double(TypeParam{bits});
    const double high = std::isfinite(to_double(TypeParam{above}))
                            ? to_double(TypeParam{above})
                            : 2 * low - to_double(TypeParam{static_cast<uint16_t>(bits - 1)});
    const double middle = (low + high) / 2;
    const uint16_t even = bits % 2 == 0 ? bits : above;
    for (int sign : {0, 0x8000}) {
      const auto rounded = [&](double x) {
        return from_double<TypeParam>(sign == 0 ? x : -x).bits ^ sign;
      };
      ASSERT_EQ(rounded(middle), even) << bits;
      ASSERT_EQ(rounded(std::nextafter(middle, 0)), bits) << bits;
      ASSERT_EQ(rounded(std::nextafter(middle, INFINITY)), above) << bits;
    }
  }
}

TYPED_TEST(Convert, BeyondTheLargestIsInfinite) {
  EXPECT_EQ(to_double(from_double<TypeParam>(1e300)), INFINITY);
  EXPECT_EQ(to_double(from_double<TypeParam>(-INFINITY)), -INFINITY);
}

}  // namespace
}  // namespace heed::ref
