// An alignment as a picture: source tokens across, target tokens down, weights as colours from
// white to dark blue, the planted places outlined. Self-contained, on a white ground of its own.
#pragma once

#include <string>

#include "heed/explain/alignment.h"

namespace heed {

// A whole SVG document, the same bytes for the same alignment, whose title stands above the cells
// and in <title>. An alignment without tokens gives one without cells.
std::string heat_map_svg(const Alignment& alignment);

}  // namespace heed
