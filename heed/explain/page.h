// One self-contained page that shows alignments: no network, no fonts, no scripts but its own.
#pragma once

#include <span>
#include <string>

#include "heed/explain/alignment.h"

namespace heed {

// A whole HTML document. Several sentences become a list to pick from.
std::string attention_page(std::span<const Alignment> alignments);

}  // namespace heed
