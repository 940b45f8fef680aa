#include "tests/core/random_program.h"

#include <limits>

namespace heed::testing {
namespace {

using program::Expression;
using program::ScoreProgram;
using program::Table;

// An integer in [low, high], an index of tables of high - low + 1.
struct Integer {
  Expression value;
  int64_t low, high;
};
// A float, about how large it gets, and how fast it moves with dot and with tables of floats:
// rounding, of values and of gradients, grows with both. What was rounded may tie in one precision
// alone, so kinks do not meet it.
struct Number {
  Expression value;
  double size, slope;
  bool rounded = false;
};

class Grammar {
 public:
  Grammar(const Shape& shape, Tables& tables, bool kinks, unsigned seed)
      : shape_(shape), tables_(tables), kinks_(kinks), random_(seed) {}

  ScoreProgram program() {
    Expression score = moderate(number(1 + below(4)), 6).value;
    // Programs that never read dot are rare, but there are some.
    if (below(8) != 0) score = program::score() + score;
    const Expression condition = mask(below(3));
    switch (below(4)) {
      case 0:
        return ScoreProgram(score);
      case 1:
        return ScoreProgram(
            program::where(condition, score, -std::numeric_limits<double>::infinity()));
      default:
        return ScoreProgram(score, condition);
    }
  }

 private:
  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % n); }
  double constant() { return static_cast<double>(below(17) - 8) / 4; }

  // Not larger than `most`, nor faster.
  Number moderate(const Number& x, double most) {
    if (x.size <= most && x.slope <= most) return x;
    Number y = x;
    if (y.size > 4 && below(2) == 0) y = {4 * program::tanh(y.value / 4), 4, y.slope, true};
    double factor = 1;
    while (std::max(y.size, y.slope) * factor > most) factor /= 2;
    return {y.value * factor, y.size * factor, y.slope * factor, y.rounded};
  }

  // ---- Integers.

  Integer position() {
    switch (below(4)) {
      case 0:
        return {program::b(), 0, shape_.B - 1};
      case 1:
        return {program::h(), 0, shape_.H - 1};
      case 2:
        return {program::t(), 0, shape_.T - 1};
      default:
        return {program::s(), 0, shape_.S - 1};
    }
  }
  Integer distance() {
    const int64_t c = 1 + below(20);
    const Expression apart = program::t() - program::s();
    switch (below(3)) {
      case 0:
        return {apart, 1 - shape_.S, shape_.T - 1};
      case 1:
        return {program::min(program::max(apart, -c), c), -c, c};
      default:
        return {program::abs(apart), 0, std::max(shape_.T, shape_.S) - 1};
    }
  }
  Integer integer(int64_t depth) {
    if (depth == 0) return below(3) == 0 ? distance() : position();
    const Integer x = integer(depth - 1);
    const int64_t c = 1 + below(9);
    switch (below(6)) {
      case 0:
        return {program::floor_div(x.value, c), floor_div(x.low, c), floor_div(x.high, c)};
      case 1:
        return {x.value % c, 0, c - 1};
      case 2: {
        const Table table = tables_.integers({x.high - x.low + 1}, 0, c);
        return {table[x.value - x.low], 0, c};
      }
      case 3: {
        const Integer y = integer(0);
        return {program::where(mask(0), x.value, y.value), std::min(x.low, y.low),
                std::max(x.high, y.high)};
      }
      case 4: {
        const Integer y = integer(0);
        return {x.value + y.value, x.low + y.low, x.high + y.high};
      }
      default:
        return x;
    }
  }
  static int64_t floor_div(int64_t x, int64_t c) { return x >= 0 ? x / c : -((-x + c - 1) / c); }

  // The index as it is written: shifted to 0, or, now and then, negative ones left to count from
  // the end.
  Expression index(const Integer& x) {
    return x.low < 0 && below(4) == 0 ? x.value : x.value - x.low;
  }
  static int64_t extent(const Integer& x) { return x.high - x.low + 1; }

  // ---- Conditions.

  Expression mask(int64_t depth) {
    if (depth > 0) {
      const Expression x = mask(depth - 1), y = mask(0);
      switch (below(4)) {
        case 0:
          return x && y;
        case 1:
          return !x || y;
        default:
          return x || y;
      }
    }
    const Integer x = integer(1), y = integer(1);
    switch (below(7)) {
      case 0:
        return program::s() <= program::t() + (below(9) - 4);
      case 1:
        return program::abs(program::t() - program::s()) <= below(30);
      case 2:
        return x.value <= y.value;
      case 3: {
        const int64_t c = 2 + below(3);
        return x.value % c != y.value % c;
      }
      case 4: {
        const Table table = tables_.booleans({extent(x)}, 0.7);
        return table[index(x)];
      }
      case 5: {
        const Table table = tables_.booleans({shape_.T, shape_.S}, 0.7);
        return table.at({program::t(), program::s()});
      }
      default: {
        const Table table = tables_.floats({extent(x)});
        return table[index(x)] < 0.8;
      }
    }
  }

  // ---- Floats.

  Number leaf() {
    const Integer x = integer(below(2)), y = integer(0);
    switch (below(7)) {
      case 0:
        return {program::score(), 4, 1};
      case 1: {
        const double c = constant();
        return {c, std::abs(c), 0};
      }
      case 2:
        return {tables_.floats({}).value(), 3, 1};
      case 3: {
        const Table table = tables_.floats({extent(x), extent(y)});
        return {table.at({index(x), index(y)}), 3, 1};
      }
      case 4: {  // of each head, or of each of its queries
        const Expression of_query = below(2) == 0 ? program::t() : Expression(0);
        const Table table = tables_.floats({shape_.B, shape_.H, shape_.T, extent(x)});
        return {table.at({program::b(), program::h(), of_query, index(x)}), 3, 1};
      }
      case 5:
        return {program::to_float(x.value) / 16,
                static_cast<double>(std::max(std::abs(x.low), std::abs(x.high))) / 16, 0};
      default:
        return {tables_.floats({extent(x)})[index(x)], 3, 1};
    }
  }

  Number number(int64_t depth) {
    if (depth == 0) return leaf();
    const Number x = moderate(number(depth - 1), 8);
    if (below(2) == 0) return smooth(x);
    const Number y = moderate(number(below(depth)), 8);
    const double size = std::max(x.size, y.size), slope = std::max(x.slope, y.slope);
    const bool rounded = x.rounded || y.rounded;
    switch (below(kinks_ && !rounded ? 7 : 5)) {
      case 0:
        return {x.value + y.value, x.size + y.size, x.slope + y.slope, rounded};
      case 1:
        return {x.value - y.value, x.size + y.size, x.slope + y.slope, rounded};
      case 2:
        return {x.value * y.value, x.size * y.size, x.slope * y.size + x.size * y.slope, rounded};
      case 3:
        return {x.value / (1 + y.value * y.value), x.size, x.slope + x.size * y.slope, true};
      case 4:
        return {program::where(mask(0), x.value, y.value), size, slope, rounded};
      case 5:
        return {program::min(x.value, y.value), size, slope};
      default:
        return {program::max(x.value, y.value), size, slope};
    }
  }

  Number smooth(const Number& x) {
    const Expression square = x.value * x.value;
    switch (below(kinks_ && !x.rounded ? 9 : 8)) {
      case 0:
        return {-x.value, x.size, x.slope, x.rounded};
      case 1:
        return {program::tanh(x.value), 1, x.slope, true};
      case 2:
        return {program::sigmoid(x.value), 1, x.slope, true};
      case 3:
        return {program::exp(program::tanh(x.value)), 3, 3 * x.slope, true};
      case 4:
        return {program::log(1 + square), 2 * std::log(1 + x.size), x.slope, true};
      case 5:
        return {program::sqrt(0.5 + square), 1 + x.size, x.slope, true};
      case 6:
        return {program::pow(0.25 + square, 0.75), std::pow(1 + x.size, 1.5),
                1.5 * std::sqrt(1 + x.size) * x.slope, true};
      case 7:
        return {program::pow(x.value, 2), x.size * x.size, 2 * x.size * x.slope, x.rounded};
      default:
        return {program::abs(x.value), x.size, x.slope};
    }
  }

  const Shape shape_;
  Tables& tables_;
  bool kinks_;
  std::mt19937 random_;
};

}  // namespace

ScoreProgram random_program(const Shape& shape, Tables& tables, bool kinks, unsigned seed) {
  return Grammar(shape, tables, kinks, seed).program();
}

}  // namespace heed::testing
