// The colour scale.
#include "heed/explain/color_scale.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

namespace heed {
namespace {

double linear(int level) {
  const double c = level / 255.0;
  return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}

using Rgb = std::array<int, 3>;

double luminance(Rgb color) {
  return 0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
}

Rgb of_xterm(int index) {
  constexpr std::array<int, 6> kLevels = {0, 95, 135, 175, 215, 255};
  if (index >= 232) return {8 + 10 * (index - 232), 8 + 10 * (index - 232), 8 + 10 * (index - 232)};
  const auto i = static_cast<size_t>(index - 16);
  return {kLevels[i / 36], kLevels[i / 6 % 6], kLevels[i % 6]};
}

struct Block {
  double background, text;  // luminances
};

Block block(float weight, ColorDepth depth) {
  const std::string colors = weight_colors(weight, depth);
  Rgb b{}, t{};
  if (depth == ColorDepth::kTrueColor) {
    EXPECT_EQ(std::sscanf(colors.c_str(), "48;2;%d;%d;%d;38;2;%d;%d;%d", &b[0], &b[1], &b[2], &t[0],
                          &t[1], &t[2]),
              6);
  } else {
    int background = 0, text = 0;
    EXPECT_EQ(std::sscanf(colors.c_str(), "48;5;%d;38;5;%d", &background, &text), 2);
    b = of_xterm(background);
    t = of_xterm(text);
  }
  return {luminance(b), luminance(t)};
}

class ColorScale : public testing::TestWithParam<ColorDepth> {};

TEST_P(ColorScale, GrowsLighterWithTheWeight) {
  double previous = -1;
  for (int i = 0; i <= 100; ++i) {
    const double now = block(static_cast<float>(i) / 100, GetParam()).background;
    EXPECT_GE(now, previous - 1e-9) << i;
    previous = now;
  }
}

TEST_P(ColorScale, TextCanBeReadOnEveryBlock) {
  for (int i = 0; i <= 100; ++i) {
    const Block b = block(static_cast<float>(i) / 100, GetParam());
    const double lighter = std::max(b.background, b.text), darker = std::min(b.background, b.text);
    EXPECT_GE((lighter + 0.05) / (darker + 0.05), 3.0) << i;
  }
}

TEST_P(ColorScale, WeightsOutsideTheRangeAreClamped) {
  EXPECT_EQ(weight_colors(-1, GetParam()), weight_colors(0, GetParam()));
  EXPECT_EQ(weight_colors(7, GetParam()), weight_colors(1, GetParam()));
  EXPECT_EQ(weight_colors(std::numeric_limits<float>::quiet_NaN(), GetParam()),
            weight_colors(0, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Depths, ColorScale,
                         testing::Values(ColorDepth::k256, ColorDepth::kTrueColor));

}  // namespace
}  // namespace heed
