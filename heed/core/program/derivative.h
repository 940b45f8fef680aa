// The derivative of a score by dot and by the tables, as expressions over the same graph.
#pragma once

#include <vector>

#include "heed/core/program/program.h"

namespace heed::program {

struct Derivative {
  int d_dot = -1;  // -1: 0 everywhere
  std::vector<TableGradient> tables;
};

// In reverse mode from the leaf kGradient. A branch that where(), min() or max() does not take gets
// an exact 0, even where its own derivative is infinite or not a number.
Derivative differentiate(Graph& graph, int score);

}  // namespace heed::program
