// Algebra on programs: what an operation is equal to, if to something simpler. NaN and infinities
// stay what they are, the sign of zero need not. What is made of dot, which is rounded itself, may
// be rounded otherwise; all else is the same to the last bit, so that floor(t / 49) stays the
// bucket that was meant.
#pragma once

#include <vector>

#include "heed/core/program/graph.h"

namespace heed::program {

// The operation on constants, or -1: not all are, or the result is not a number to keep.
int fold(Graph& graph, Op op, Type type, const std::vector<int>& args);

// A simpler node for the operation, or -1: there is none. Arguments are in Graph's order already:
// constants before what they multiply, behind everything else that may be exchanged.
int simplify(Graph& graph, Op op, Type type, const std::vector<int>& args);

}  // namespace heed::program
