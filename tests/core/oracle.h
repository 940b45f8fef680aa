// What a solution is compared with: the reference in double on the same numbers, and how far from
// it rounding may lead.
//
// A few units of float rounding, twice the error of a plain computation in the same type, and the
// rounding of one more such result.
#pragma once

#include <map>
#include <string>

#include "tests/core/problem.h"

namespace heed::testing {

class Oracle {
 public:
  explicit Oracle(const Case& c);
  const Problem<double>& want() const { return want_; }

  enum class Part { kForward, kAll };
  // What is wrong with a solution of the case, a line each; empty: nothing.
  template <class E>
  std::string complaints(const Problem<E>& got, Part part = Part::kAll) const;

 private:
  double allowed(const Result& want) const;
  template <class E>
  std::string top_complaints(const Problem<E>& got) const;

  Problem<double> want_;
  double severity_ = 1;                     // of the scores: the error of a softmax grows with them
  std::map<std::string, double> rounding_;  // of the case's type, by the result's name
  std::string disagreement_;
};

}  // namespace heed::testing
