// An attention problem for tests: sizes and options, data with guards around it, and its solution
// by the kernels or, in double, by the reference.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "heed/core/attention.h"
#include "heed/core/program/bound.h"
#include "tests/core/mechanisms.h"
#include "tests/core/tables.h"
#include "tests/core/tensor.h"

namespace heed::testing {

enum class KeyLengths { kNone, kMixed, kFull };  // kMixed runs from 0 to S over the batch

struct Case {
  Shape shape;  // T and S the longest where packed
  Score score = Score::kDot;
  Causal causal = Causal::kNone;
  KeyLengths lengths = KeyLengths::kNone;
  Layout layout = Layout::kDense;
  double scale = 0;                     // 0: 1 / sqrt(D), or the nearest power of two where exact
  Element element = Element::kFloat32;  // what every number is rounded to
  Window window = {};
  Mechanism mechanism = Mechanism::kNone;
  bool sinks = false;
  int64_t top_k = 0;
  double dropout = 0;
  bool packed = false;  // sequences of mixed lengths, 0 and the longest among them
  // Numbers on a coarse grid: dots are exact in every type, so that ties are ties, and comparisons
  // agree.
  bool exact = false;
  unsigned seed = 1;  // of numbers, random layouts and random programs
};

std::string name_of(const Case& c);

// Calls body(E{}) with the type that c.element names, a kernel's one.
template <class Body>
void with_element(const Case& c, Body body) {
  switch (c.element) {
    case Element::kBFloat16:
      return body(BFloat16{});
    case Element::kFloat16:
      return body(Float16{});
    default:
      return body(float{});
  }
}

// One tensor of a solution.
struct Result {
  std::string name;
  std::vector<double> values;
  std::string bits;
  bool guards_intact;
};

// Data of a case and everything computed from it. The numbers are the same for every E.
template <class E>
struct Problem {
  using Real = RealOf<E>;
  explicit Problem(const Case& problem_case);

  Case c;
  std::vector<int64_t> lengths;               // [B], where there are any
  std::vector<int64_t> q_offsets, k_offsets;  // [B + 1], where packed
  // Packed tensors are [1,H,total,D]; rows of lse and the like [1,1,1,B*H*T] or [1,1,1,H*total].
  Tensor<E> q, k, v, weight, sinks, d_out;  // weight [1,1,H,D], sinks [1,1,1,H]
  Tensor<Real> d_lse;
  Tensor<E> out, d_q, d_k, d_v;
  Tensor<Real> lse, weights, entropy, max, top_weights, d_weight, d_sinks;
  Tensor<int64_t> top_keys;
  std::vector<Tensor<Real>> d_tables;  // of integers: empty

  static constexpr int64_t kTop = 3;

  bool has_program() const { return c.mechanism != Mechanism::kNone; }
  const program::BoundProgram* program() const { return bound_.get(); }
  // After the captured numbers have changed.
  void bind();
  const program::ScoreProgram& score_program() const { return *score_program_; }

  AttentionInputs<E> inputs() const;
  enum class Ask { kOut, kEverything };  // weights and statistics too
  void forward(Executor& executor, Ask ask = Ask::kEverything);
  void backward(Executor& executor);
  void solve(Executor& executor) {
    forward(executor);
    backward(executor);
  }
  // Everything but top_keys and top_weights, in one order for every E.
  std::vector<Result> results() const;

  int64_t rows() const { return lse.size(); }
  // Of query t of (b, h) in lse.
  int64_t row(int64_t b, int64_t h, int64_t t) const;

 private:
  std::unique_ptr<Tables> tables_;
  std::unique_ptr<program::ScoreProgram> score_program_;
  std::unique_ptr<program::BoundProgram> bound_;
};

extern template struct Problem<float>;
extern template struct Problem<BFloat16>;
extern template struct Problem<Float16>;
extern template struct Problem<double>;

// The bits of every result, one after another.
template <class E>
std::string bits(const Problem<E>& problem) {
  std::string all;
  for (const Result& result : problem.results()) all += result.bits;
  return all + problem.top_keys.bits() + problem.top_weights.bits();
}

// The tables that tests of the kernels walk: plain ones, and those with programs, windows, sinks,
// top-k, dropout and packing. Elements are float: each test sets those it wants.
const std::vector<Case>& plain_cases();
const std::vector<Case>& feature_cases();

}  // namespace heed::testing
