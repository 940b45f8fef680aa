// Tables that a test's score programs capture: numbers, and memory of any type and layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "heed/core/element.h"
#include "heed/core/program/expression.h"
#include "tests/core/tensor.h"

namespace heed::testing {

class Tables {
 public:
  struct Options {
    unsigned seed = 1;
    Layout layout = Layout::kDense;
    Element floats = Element::kFloat32;  // what numbers are rounded to, and kept in
    bool as_double = false;              // the same numbers, kept as doubles
    bool exact = false;                  // numbers on a coarse grid, as the dots are
  };
  explicit Tables(const Options& options) : options_(options), random_(options.seed) {}

  // Normally distributed.
  program::Table floats(std::vector<int64_t> sizes, double amplitude = 1);
  // `often`, or, one time in four, `seldom`; -inf may be one of them.
  program::Table either(std::vector<int64_t> sizes, double often, double seldom);
  // Uniform in [low, high].
  program::Table integers(std::vector<int64_t> sizes, int64_t low, int64_t high);
  program::Table booleans(std::vector<int64_t> sizes, double probability);

 private:
  using Draw = std::function<double()>;
  program::Table add(Element element, std::vector<int64_t> sizes, const Draw& draw);
  program::Table add_floats(std::vector<int64_t> sizes, const Draw& draw);

  Options options_;
  std::mt19937 random_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<GuardedMemory> pages_;
};

}  // namespace heed::testing
