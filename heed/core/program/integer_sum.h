// Sums of integers, factor * term + ... + constant, in one form: (t + 5) - s + 3 and t - s + 8 are
// the same node.
#pragma once

#include <vector>

#include "heed/core/program/graph.h"

namespace heed::program {

struct IntegerSum {
  struct Term {
    int node;
    double factor;
  };
  std::vector<Term> terms;  // each node once, factors not 0
  double constant = 0;

  // Adds factor * node, taken apart. False where that gives too many terms or too large numbers.
  bool add(const Graph& graph, int node, double factor);
};

// The node of a sum: terms added in the graph's order, then those subtracted, then the constant.
int add_sum(Graph& graph, IntegerSum sum);

}  // namespace heed::program
