// The colours of a weight from 0 to 1 on a terminal: ink, green, amber, lighter with every step.
#pragma once

#include <string>

#include "heed/explain/terminal.h"

namespace heed {

// The parameters of the escape sequence (ESC [ ... m) for a block that stands for `weight` and text
// that can be read on it. Empty without colours.
std::string weight_colors(float weight, ColorDepth depth);

}  // namespace heed
