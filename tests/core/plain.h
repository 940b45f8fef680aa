// Attention as a framework computes it, one operation after the other: scores and sums in float,
// but probabilities, their gradients and results rounded to the type in between.
#pragma once

#include <string>
#include <vector>

#include "tests/core/problem.h"

namespace heed::testing {

struct PlainResult {
  std::string name;  // as in Problem::results()
  std::vector<double> values;
  // Most that the terms of one element add up to, all taken positive: what a rounding of the terms
  // is relative to.
  double magnitude;
};

// Of the results in the problem's type and of the gradients; the softmax itself is `want`'s.
template <class E>
std::vector<PlainResult> plain_solution(const Problem<E>& problem, const Problem<double>& want);

}  // namespace heed::testing
