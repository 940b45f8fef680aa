// The colour scale: stops an eighth apart along a line in OKLCH, from (.26, .035, 250) to (.87,
// .165, 88).
#include "heed/explain/color_scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace heed {
namespace {

using Rgb = std::array<int, 3>;

constexpr std::array<Rgb, 9> kStops = {{{0x17, 0x25, 0x34},
                                        {0x16, 0x3c, 0x4c},
                                        {0x0b, 0x55, 0x5f},
                                        {0x04, 0x6f, 0x6a},
                                        {0x27, 0x89, 0x6c},
                                        {0x55, 0xa0, 0x64},
                                        {0x8b, 0xb3, 0x54},
                                        {0xc5, 0xc2, 0x3f},
                                        {0xff, 0xcd, 0x34}}};

// The same way through xterm's palette; the nearest colours would not grow lighter at every step.
constexpr std::array<int, 8> kXtermStops = {235, 23, 29, 71, 107, 149, 185, 221};
constexpr int kFirstLightXtermStop = 3;

// The root spreads the small weights, where most of a diffuse row lies; the legend shows the bend.
float shade(float weight) {
  return std::isfinite(weight) ? std::sqrt(std::clamp(weight, 0.0F, 1.0F)) : 0.0F;
}

Rgb true_color(float weight) {
  const float position = shade(weight) * (kStops.size() - 1);
  const size_t below = std::min(static_cast<size_t>(position), kStops.size() - 2);
  const float mix = position - static_cast<float>(below);
  Rgb color;
  for (size_t c = 0; c < 3; ++c) {
    const int from = kStops[below][c], to = kStops[below + 1][c];
    color[c] = from + static_cast<int>(std::lround(mix * static_cast<float>(to - from)));
  }
  return color;
}

std::string true_color_block(float weight) {
  const Rgb color = true_color(weight);
  const double luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2];
  const char* text_color = luma > 110 ? "8;20;28" : "220;230;234";
  char text[64];
  std::snprintf(text, sizeof text, "48;2;%d;%d;%d;38;2;%s", color[0], color[1], color[2],
                text_color);
  return text;
}

std::string xterm_block(float weight) {
  const auto stop = std::lround(shade(weight) * (kXtermStops.size() - 1));
  return "48;5;" + std::to_string(kXtermStops[static_cast<size_t>(stop)]) + ";38;5;" +
         (stop >= kFirstLightXtermStop ? "233" : "254");
}

}  // namespace

std::string weight_colors(float weight, ColorDepth depth) {
  switch (depth) {
    case ColorDepth::kTrueColor:
      return true_color_block(weight);
    case ColorDepth::k256:
      return xterm_block(weight);
    case ColorDepth::kNone:
      break;
  }
  return "";
}

}  // namespace heed
