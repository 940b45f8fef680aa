// An alignment for a terminal: target tokens down, source tokens across.
//
//        I   love  you   .
//   我  .94   .03  .02        in blocks of colour with two decimals, or as one digit (tenths)
//   爱  .04   .91  .04        where there is no colour
//
// Where it is known where the answers stand, those weights are in brackets: [.95].
#pragma once

#include <string>

#include "heed/explain/alignment.h"
#include "heed/explain/terminal.h"

namespace heed {

// Lines that end in '\n', each at most style.width cells. Source sentences that are too long
// continue in panels below, each with its own header.
std::string heat_map(const Alignment& alignment, const HeatMapStyle& style);

}  // namespace heed
