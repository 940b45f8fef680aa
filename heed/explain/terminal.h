// What the terminal can show: its colours and its width.
#pragma once

#include <functional>

namespace heed {

enum class ColorDepth {
  kNone,       // digits
  k256,        // xterm's palette
  kTrueColor,  // 24 bits
};

struct HeatMapStyle {
  ColorDepth colors = ColorDepth::kNone;
  int width = 80;  // terminal cells
};

using Environment = std::function<const char*(const char* name)>;  // null when unset, as getenv

// Colours only on a terminal, and not when NO_COLOR is set and non-empty (no-color.org) or TERM is
// "dumb"; COLORTERM or TERM says how many.
ColorDepth detect_colors(bool is_terminal, const Environment& environment);

// The same for standard output, with the width of its window (80 where there is none).
HeatMapStyle standard_output_style();

}  // namespace heed
