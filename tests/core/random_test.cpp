// Random configurations of every feature against the reference: HEED_RANDOM_CASES of them (2000)
// from HEED_RANDOM_FIRST (0) on, or the one of HEED_RANDOM_SEED. A failure prints both the case and
// the smallest one near it that fails too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>

#include "tests/core/each_isa.h"
#include "tests/core/oracle.h"

namespace heed::testing {
namespace {

// More pairs than that and the reference takes too long.
constexpr int64_t kMostPairs = 7000;

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % n); }
  bool one_in(int64_t n) { return below(n) == 0; }
  int64_t from(int64_t low, int64_t high) { return low + below(high - low + 1); }
  template <class X>
  X any(std::initializer_list<X> choices) {
    return choices.begin()[below(static_cast<int64_t>(choices.size()))];
  }
  // Lengths of sequences: few, some, many.
  int64_t length() {
    const int64_t kind = below(20);
    return kind < 6 ? from(1, 8) : kind < 17 ? from(9, 70) : from(71, 220);
  }
  int64_t width() { return one_in(12) ? from(81, 260) : from(1, 80); }

 private:
  std::mt19937 random_;
};

Case random_case(unsigned seed) {
  Draw draw(seed * 2654435761u);
  Case c = {.seed = seed};
  Shape& shape = c.shape;
  shape.Hkv = draw.from(1, 2);
  shape.B = draw.from(1, 3);
  shape.H = shape.Hkv * (draw.one_in(6) ? draw.from(4, 9) : draw.from(1, 3));
  shape.T = draw.length();
  shape.S = draw.length();
  shape.D = draw.width();
  shape.Dv = draw.width();
  c.packed = draw.one_in(5);
  if (c.packed) shape.B = draw.from(1, 5);
  while (shape.B * shape.H * shape.T * shape.S > kMostPairs) {
    int64_t& largest = shape.T > shape.S ? shape.T : shape.S;
    largest = (largest + 1) / 2;
  }
  c.element = draw.any({Element::kFloat32, Element::kBFloat16, Element::kFloat16});
  c.score = draw.any({Score::kDot, Score::kDot, Score::kDot, Score::kAdditive, Score::kNone});
  c.causal = draw.any({Causal::kNone, Causal::kTopLeft, Causal::kBottomRight});
  if (draw.one_in(3)) c.window = {.left = draw.from(-1, 40), .right = draw.from(-1, 40)};
  if (!c.packed && draw.one_in(4)) c.lengths = KeyLengths::kMixed;
  c.layout = draw.any({Layout::kDense, Layout::kTokenMajor, Layout::kRandom, Layout::kRandom,
                       Layout::kEndsAtPage, Layout::kBeginsAtPage});
  c.sinks = draw.one_in(4);
  if (draw.one_in(4)) c.dropout = draw.any({0.1, 0.5, 0.9});
  c.exact = c.score != Score::kAdditive && draw.one_in(3);
  if (c.exact && draw.one_in(2)) c.top_k = draw.from(1, 20);
  // The rare sizes at last: nothing of something, where programs have nothing to index.
  if (c.score == Score::kNone || draw.one_in(2)) {
    c.mechanism = Mechanism::kRandom;
  } else if (draw.one_in(20)) {
    draw.any({&shape.B, &shape.T, &shape.S, &shape.D, &shape.Dv})[0] = 0;
  }
  return c;
}

std::string program_of(const Case& c) {
  const Problem<float> problem(c);
  return problem.has_program() ? problem.score_program().program->str() + "\n" : "";
}

// Whether scores may be rounded, so that a tie in one precision is none in another: by functions,
// or by constants that were folded from them and have more than 20 binary places.
bool is_rounded(const std::string& program) {
  for (const char* inexact : {"exp(", "log(", "pow(", "sigmoid(", "sqrt(", "tanh(", " / "}) {
    if (program.find(inexact) != std::string::npos) return true;
  }
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (std::isdigit(program[i]) == 0) continue;
    const char* begin = program.c_str() + i;
    char* end = nullptr;
    const double scaled = std::ldexp(std::strtod(begin, &end), 20);
    if (scaled != std::floor(scaled)) return true;
    i += end - begin;
  }
  return false;
}

// Not so where the k-th and the next score differ by less than rounding, or are equal but for it:
// either answer is right.
bool tops_are_clear(const Case& c) {
  if (c.top_k == 0) return true;
  const bool ties_are_sure = !is_rounded(program_of(c));
  Case all = c;
  all.top_k = 0;
  SerialExecutor serial;
  Problem<double> problem(all);
  problem.forward(serial);
  const std::vector<double> weights = problem.weights.values();
  const int64_t S = c.shape.S;
  for (int64_t row = 0; row < problem.rows() && c.top_k < S; ++row) {
    std::vector<double> sorted(weights.begin() + row * S, weights.begin() + (row + 1) * S);
    std::sort(sorted.rbegin(), sorted.rend());
    const double inside = sorted[c.top_k - 1], outside = sorted[c.top_k];
    const bool is_tie = inside == outside && ties_are_sure;
    if (outside > 0 && !is_tie && inside - outside < 1e-4 * inside) return false;
  }
  return true;
}

// What is wrong on any kernel set; empty: nothing. The reference in float now and then only.
std::string complaints(const Case& c) {
  SerialExecutor serial;
  ThreadPool pool(2);
  const Oracle oracle(c);
  std::string all;
  with_element(c, [&]<class E>(E) {
    for_each_isa([&] {
      if (isa() == Isa::kRef && c.seed % 8 != 0) return;
      Problem<E> got(c);
      got.solve(c.seed % 4 == 0 ? static_cast<Executor&>(pool) : serial);
      const std::string found = oracle.complaints(got);
      if (!found.empty()) all += std::string(isa_name(isa())) + ": " + found;
    });
  });
  return all;
}

// Simpler cases next to one.
std::vector<Case> simpler(const Case& c) {
  std::vector<Case> all;
  const auto add = [&](const std::function<void(Case&)>& simplify) {
    Case next = c;
    simplify(next);
    if (name_of(next) != name_of(c)) all.push_back(next);
  };
  if (c.score != Score::kNone) add([](Case& x) { x.mechanism = Mechanism::kNone; });
  add([](Case& x) { x.packed = false; });
  add([](Case& x) { x.lengths = KeyLengths::kNone; });
  add([](Case& x) { x.top_k = 0; });
  add([](Case& x) { x.dropout = 0; });
  add([](Case& x) { x.sinks = false; });
  add([](Case& x) { x.window = {}; });
  add([](Case& x) { x.causal = Causal::kNone; });
  add([](Case& x) { x.layout = Layout::kDense; });
  add([](Case& x) { x.element = Element::kFloat32; });
  add([](Case& x) { x.shape.B = std::min<int64_t>(x.shape.B, 1); });
  add([](Case& x) { x.shape.H = x.shape.Hkv; });
  add([](Case& x) { x.shape.H = x.shape.group(), x.shape.Hkv = 1; });
  for (int64_t Shape::*size : {&Shape::T, &Shape::S, &Shape::D, &Shape::Dv}) {
    for (int64_t less : {2, 1}) {
      add([&](Case& x) {
        int64_t& n = x.shape.*size;
        if (n > 1) n = less == 2 ? n / 2 : n - 1;
      });
    }
  }
  return all;
}

// Each step towards a simpler case that fails as well; a few hundred tries at most.
Case smallest_failure(Case c) {
  int tries = 300;
  for (bool moved = true; moved;) {
    moved = false;
    for (const Case& next : simpler(c)) {
      if (--tries < 0) return c;
      if (!tops_are_clear(next) || complaints(next).empty()) continue;
      c = next;
      moved = true;
      break;
    }
  }
  return c;
}

void run(unsigned seed) {
  const Case c = random_case(seed);
  if (!tops_are_clear(c)) return;
  const std::string found = complaints(c);
  if (found.empty()) return;
  const Case small = smallest_failure(c);
  ADD_FAILURE() << "HEED_RANDOM_SEED=" << seed << ": " << name_of(c) << "\n"
                << program_of(c) << found << "\nand so does: " << name_of(small) << "\n"
                << program_of(small) << complaints(small);
}

int64_t number_from(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

TEST(Random, CasesEqualTheReference) {
  const int64_t seed = number_from("HEED_RANDOM_SEED", -1);
  if (seed >= 0) {
    const Case c = random_case(static_cast<unsigned>(seed));
    std::cout << name_of(c) << "\n" << program_of(c);
    return run(static_cast<unsigned>(seed));
  }
  const int64_t first = number_from("HEED_RANDOM_FIRST", 0);
  const int64_t end = first + number_from("HEED_RANDOM_CASES", 2000);
  for (int64_t i = first; i < end && !HasFailure(); ++i) run(static_cast<unsigned>(i));
}

}  // namespace
}  // namespace heed::testing
