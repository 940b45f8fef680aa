// A mask in two: what a band says (t - s <= 5, s < length[b], ...), and the rest.
#pragma once

#include <optional>
#include <vector>

#include "heed/core/band.h"
#include "heed/core/program/linear.h"
#include "heed/core/program/program.h"
#include "heed/core/program/ranges.h"
#include "heed/core/program/scalar.h"

namespace heed::program {

// side + rest <= 0, or < 0 where strict; rest is of b and h only.
struct BandTerm {
  enum class Side { kRight, kLeft, kLimit };  // s - t, t - s, s
  Side side;
  bool strict;
  Linear rest;
};

// The band that is left of `band`, `rest` being the term's for the head.
Band tightened(const Band& band, const BandTerm& term, double rest);

struct MaskSplit {
  std::vector<BandTerm> band;
  std::vector<int> rest;  // nodes, all of which have to hold
};

// `mask` a node, or -1: all.
MaskSplit split_mask(const Graph& graph, int mask, const Ranges& ranges);

}  // namespace heed::program
