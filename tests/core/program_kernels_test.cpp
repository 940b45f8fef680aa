// Scores, masks and gradients of programs as the kernels evaluate them, patch by patch, against the
// scalar interpreter in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "heed/core/program/bound.h"
#include "heed/core/program/bytecode.h"
#include "heed/core/program/expression.h"
#include "heed/core/program/gradient_blocks.h"
#include "tests/core/each_isa.h"
#include "tests/core/guard_pages.h"
#include "tests/core/program_probe.h"
#include "tests/core/tables.h"

namespace heed::testing {
namespace {

using namespace heed::program;

constexpr int64_t B = 2, H = 3, T = 83, S = 97;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

struct Case {
  const char* name;
  std::function<ScoreProgram(Tables&)> make;
  double tolerance = 2e-6;
};

ScoreProgram of(const Expression& score) { return ScoreProgram(score); }
ScoreProgram mask(const Expression& condition) { return ScoreProgram::masked(condition); }

// What people write.
std::vector<Case> mechanisms() {
  return {
      {"scale", [](Tables&) { return of(score() * 0.3); }},
      {"number", [](Tables&) { return of(Expression(1.5)); }},
      {"negative", [](Tables&) { return of(-score()); }},
      {"alibi", [](Tables& x) { return of(score() - x.floats({H}, 0.1)[h()] * abs(t() - s())); }},
      {"alibi with a mask",
       [](Tables& x) {
         return ScoreProgram(score() - x.floats({H}, 0.1)[h()] * (t() - s()), t() >= s());
       }},
      {"soft cap", [](Tables&) { return of(5 * tanh(score() / 5)); }},
      {"learnt soft cap",
       [](Tables& x) {
         const Expression cap = x.floats({H})[h()];
         return of(cap * tanh(score() / cap));
       }},
      {"wide soft cap", [](Tables&) { return of(1e6 * tanh(score() * 1e-6) + tanh(score())); }},
      {"relative",
       [](Tables& x) {
         return of(score() + x.floats({H, T + S}).at({h(), t() - s() + S}));
       }},
      {"relative to some distance",
       [](Tables& x) {
         return ScoreProgram(score() + x.floats({H, 41}).at({h(), t() - s() + 20}),
                             abs(t() - s()) <= 20);
       }},
      {"from the end",
       [](Tables& x) {
         return ScoreProgram(score() + x.floats({T}).at({s() - t() - 1}), s() <= t());
       }},
      {"heads from the end",
       [](Tables& x) {
         return of(score() + x.floats({H, S}).at({h() - H, s()}));
       }},
      {"buckets",
       [](Tables& x) {
         const Expression bucket = x.integers({T + S}, 0, 15)[abs(t() - s())];
         return of(score() + x.floats({16, H}).at({bucket, h()}));
       }},
      {"logarithmic buckets",
       [](Tables& x) {
         const Expression far = to_int(log(max(abs(t() - s()), 1) * 1.0) * 3);
         return of(score() + x.floats({64, H}).at({min(far, 63), h()}));
       }},
      {"bias",
       [](Tables& x) {
         return of(score() + x.floats({B, H, T, S}).at({b(), h(), t(), s()}));
       }},
      {"bias of keys first",
       [](Tables& x) {
         return of(score() + x.floats({S, T}).at({s(), t()}));
       }},
      {"bias of one head and query",
       [](Tables& x) {
         return of(score() + x.floats({B, 1, 1, S}).at({b(), 0, 0, s()}));
       }},
      {"bias backwards",
       [](Tables& x) {
         return of(score() + x.floats({T, S}).at({T - 1 - t(), S - 1 - s()}));
       }},
      {"bias of every second key",
       [](Tables& x) {
         return of(score() + x.floats({T, 2 * S}).at({t(), 2 * s() + 1}));
       }},
      {"location",
       [](Tables& x) {
         return of(x.floats({T, S}).at({t(), s()}));
       }},
      {"key bias",
       [](Tables& x) {
         return of(score() + x.floats({B, S}).at({b(), s()}));
       }},
      {"query alone", [](Tables& x) { return of(x.floats({T})[t()]); }},
      {"key alone", [](Tables& x) { return of(x.floats({S})[s()]); }},
      {"diagonal alone", [](Tables& x) { return of(x.floats({T + S})[t() - s() + S]); }},
      {"rank one", [](Tables& x) { return of(score() + x.floats({T})[t()] * x.floats({S})[s()]); }},
      {"temperature",
       [](Tables& x) {
         return of(score() / exp(x.floats({B, S}).at({b(), s()})));
       }},
      {"gaussian",
       [](Tables& x) {
         const Expression from = s() - (t() + 3 * x.floats({B, H, T}).at({b(), h(), t()}));
         const Expression width = 4 + x.floats({H})[h()];
         return of(score() - pow(from, 2) / (2 * pow(width, 2)));
       },
       1e-5},
      {"kernel regression",
       [](Tables& x) {
         return of(score() - x.floats({B, T}).at({b(), t()}) / 2 -
                   x.floats({B, S}).at({b(), s()}) / 2);
       }},
      {"natten",
       [](Tables& x) {
         const Expression down = floor_div(t(), 10) - floor_div(s(), 10),
                          across = t() % 10 - s() % 10;
         return ScoreProgram(score() + x.floats({H, 7, 5}).at({h(), down + 3, across + 2}),
                             (abs(down) <= 3) & (abs(across) <= 2));
       }},
      {"rows to some distance",
       [](Tables& x) {
         const Expression clipped = min(max(s() - t(), -9), 14) + 9;
         return of(score() + x.floats({B, H, T, 24}).at({b(), h(), t(), clipped}));
       }},
      {"rows of a wide band",
       [](Tables& x) {
         const Expression clipped = min(max(t() - s(), -40), 40);
         return of(score() + x.floats({T, B, H, 121}).at({t(), b(), h(), 80 - clipped}));
       }},
      {"rows of distances",
       [](Tables& x) {
         return of(score() + x.floats({B, H, T, T + S}).at({b(), h(), t(), t() - s() + S}));
       }},
      {"rows of the past",
       [](Tables& x) {
         const Table table = x.floats({B, H, T, T});
         return ScoreProgram(score() + table.at({b(), h(), t(), t() - s()}), s() <= t());
       }},
      {"rows of keys, from either end",
       [](Tables& x) {
         const Table table = x.floats({B, H, S, T + S});
         return of(score() + table.at({b(), h(), s(), abs(t() - s()) - 40}));
       }},
      {"rows at two places",
       [](Tables& x) {
         const Table table = x.floats({H, T, T + S});
         return of(score() * table.at({h(), t(), s()}) + table.at({h(), t(), t() - s() + S}));
       }},
      {"rows of buckets",
       [](Tables& x) {
         const Expression bucket = x.integers({T + S}, 0, 15)[t() - s() + S];
         return of(score() + x.floats({B, H, T, 16}).at({b(), h(), t(), bucket}));
       }},
      {"looked up twice",
       [](Tables& x) {
         const Expression where = x.integers({T, S}, 0, 30).at({t(), s()});
         return of(score() + x.floats({H, 31}).at({h(), where}));
       }},
      {"one table at two places",
       [](Tables& x) {
         const Table table = x.floats({T + S});
         return of(score() * table[t()] + table[s() + T] * table[abs(t() - s())]);
       }},
      {"window", [](Tables&) { return mask(abs(t() - s()) <= 7); }},
      {"prefix", [](Tables& x) { return mask((s() <= t()) | (s() < x.integers({B}, 0, S)[b()])); }},
      {"lengths", [](Tables& x) { return mask(s() < x.integers({B}, 0, S)[b()]); }},
      {"documents",
       [](Tables& x) {
         return mask(x.integers({B, T}, 0, 3).at({b(), t()}) ==
                     x.integers({B, S}, 0, 3).at({b(), s()}));
       }},
      {"mask",
       [](Tables& x) {
         return mask(x.booleans({B, T, S}, 0.7).at({b(), t(), s()}));
       }},
      {"many masks",
       [](Tables& x) {
         return mask((x.floats({T})[t()] < x.floats({S})[s()]) & (t() != s()) & (s() % 3 != 1) &
                     !(x.booleans({T}, 0.2)[t()] & x.booleans({S}, 0.2)[s()]) &
                     ((t() - s() < 40) | x.booleans({H}, 0.5)[h()]));
       }},
      {"global and local",
       [](Tables&) { return mask((s() < 4) | (t() < 4) | (abs(t() - s()) <= 9)); }},
  };
}

// Every operation, on pairs and on less.
std::vector<Case> operations() {
  const auto places = [](Tables& x) { return x.floats({T})[t()] + x.floats({S})[s()]; };
  return {
      {"exp", [](Tables&) { return of(exp(score() * 3)); }, 4e-6},
      {"log", [](Tables&) { return of(log(abs(score()) + 1e-3)); }, 4e-6},
      {"sigmoid", [](Tables&) { return of(sigmoid(score() * 4)); }},
      {"sqrt", [](Tables&) { return of(sqrt(abs(score()) + 0.1)); }},
      {"floor", [](Tables&) { return of(score() * floor(score() * 2) + floor(score())); }},
      {"integers", [](Tables&) { return of(score() * to_int(score() * 3)); }},
      {"powers",
       [](Tables&) {
         return of(pow(score(), 2) + pow(score(), 3) - pow(score(), 4) / 8 +
                   pow(abs(score()) + 1, -1) + pow(abs(score()) + 1, -2) +
                   pow(abs(score()) + 1, 0.5) + pow(abs(score()) + 1, -0.5));
       },
       1e-5},
      {"pow", [=](Tables& x) { return of(pow(abs(score()) + 0.1, places(x))); }, 4e-6},
      {"pow of a number",
       [](Tables&) { return of(pow(abs(score()) + 0.1, 1.7) + pow(2, score())); }, 4e-6},
      {"division",
       [=](Tables& x) { return of(score() / (3 + abs(places(x))) + 1 / (2 + abs(score()))); }},
      {"modulo",
       [](Tables&) {
         return of(score() + (t() - s()) % 7 + floor_div(3 * t() - 5 * s(), 4) +
                   (2 * s() - t()) % -5);
       }},
      {"least and greatest",
       [=](Tables& x) { return of(min(score(), places(x)) + max(score(), 0.5) * min(t(), s())); }},
      {"where", [=](Tables& x) { return of(where(score() > places(x), score(), 0.1 * score())); }},
      {"comparisons",
       [](Tables&) {
         return of(score() * (t() < s()) + (t() <= s()) * 2.0 + (t() % 3 == s() % 3) * score() +
                   (t() % 2 != s() % 2) + to_float(!(t() > s())) + ((t() < 9) | (s() < 9)));
       }},
      {"sums of places",
       [](Tables&) { return of(score() + 0.01 * (3 * t() - 2 * s() + 5) - (4 - h() * t())); }},
      {"products of places", [](Tables&) { return of(score() * 1e-3 * ((t() + 1) * (s() + 2))); }},
      {"heads", [](Tables& x) { return of(score() * (h() + 1) - b() * x.floats({}).value()); }},
      {"products of many",
       [=](Tables& x) {
         return of(-(0.5 * score() * x.floats({H})[h()]) * (-2 * places(x)) * (t() - s()) * 0.125);
       }},
      {"two sums of products",
       [=](Tables& x) {
         return of(score() * places(x) - places(x) * score() * score() + (places(x) - score() * 2));
       }},
      {"masked by the product",
       [](Tables&) { return ScoreProgram(score() * 2, (score() > 0) & (s() != 5)); }},
  };
}

// Numbers of a pair, the same for every patch that it is in.
float hashed(int64_t t, int64_t s, uint32_t salt) {
  uint32_t x = static_cast<uint32_t>(t * 1000003 + s * 7919) ^ salt * 0x9e3779b9u;
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return static_cast<float>((x ^ x >> 16) % 4001) / 1000.0f - 2.0f;
}
float dot_at(int64_t t, int64_t s) { return hashed(t, s, 1); }
float gradient_at(int64_t t, int64_t s) { return hashed(t, s, 2); }
bool hidden_at(int64_t t, int64_t s) { return hashed(t, s, 3) < -1.2f; }

// What a program is for one head, by pairs [T,S].
struct Expected {
  struct Output {
    int table;
    std::vector<double> value;
    std::vector<int64_t> offset;
  };
  std::vector<double> score, d_dot;
  std::vector<bool> visible, in_band;
  std::vector<Output> outputs;
};

Expected expected_of(const BoundProgram& bound, int64_t b, int64_t h) {
  const Program& program = bound.program();
  const Band band = bound.tighten({-kUnbounded, kUnbounded, S}, b, h);
  Expected to;
  for (const TableGradient& output : program.table_gradients()) {
    to.outputs.push_back({program.graph()[output.lookup].table, {}, {}});
  }
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t s = 0; s < S; ++s) {
      const Pair pair = {b, h, t, s, dot_at(t, s), gradient_at(t, s)};
      to.visible.push_back(bound.visible(pair));
      to.in_band.push_back(first_key(band, t) <= s && s < end_key(band, t));
      to.score.push_back(bound.value(program.score(), pair));
      to.d_dot.push_back(program.d_dot() < 0 ? 0 : bound.value(program.d_dot(), pair));
      for (size_t i = 0; i < to.outputs.size(); ++i) {
        const TableGradient& output = program.table_gradients()[i];
        to.outputs[i].value.push_back(bound.value(output.value, pair));
        to.outputs[i].offset.push_back(bound.offset(output.lookup, pair));
      }
    }
  }
  return to;
}

// A patch with arrays that end right before inaccessible pages.
class GuardedPatch {
 public:
  explicit GuardedPatch(const ProbePatch& patch) : patch_(patch) {
    float** const arrays[] = {&patch_.scores, &patch_.masked, &dot_, &p_, &patch_.g};
    for (float** array : arrays) {
      memory_.emplace_back(patch.rows * patch.stride * sizeof(float),
                           GuardedMemory::Side::kEndsAtPage);
      *array = reinterpret_cast<float*>(memory_.back().data());
      std::fill_n(*array, patch.rows * patch.stride, kPadding);
    }
    patch_.dot = dot_;
    patch_.p = p_;
  }

  static constexpr float kPadding = 77;

  const ProbePatch& patch() const { return patch_; }
  int64_t query(int64_t row, int64_t lane) const {
    return patch_.lanes_are_queries ? patch_.lane0 + lane : patch_.row0 + row;
  }
  int64_t key(int64_t row, int64_t lane) const {
    return patch_.lanes_are_queries ? patch_.row0 + row : patch_.lane0 + lane;
  }

  // NaN where the pair is hidden: it may go nowhere.
  void fill(const Expected& expected) {
    for_each([&](int64_t at, int64_t t, int64_t s) {
      const bool hidden = hidden_at(t, s) || !expected.visible[t * S + s];
      const float nan = std::numeric_limits<float>::quiet_NaN();
      const float dot = hidden && (t + s) % 2 == 0 ? nan : dot_at(t, s);
      dot_[at] = dot;
      patch_.scores[at] = dot_at(t, s);
      patch_.masked[at] = hidden ? nan : 1.0f;
      p_[at] = hidden ? 0.0f : 0.5f;
      patch_.g[at] = hidden ? 0.0f : gradient_at(t, s);
    });
    for (int64_t row = 0; row < patch_.rows; ++row) {
      for (int64_t lane = patch_.lanes; lane < patch_.stride; ++lane) {
        p_[row * patch_.stride + lane] = 0;
        patch_.g[row * patch_.stride + lane] = 0;
      }
    }
  }

  // body(place in the arrays, t, s)
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t row = 0; row < patch_.rows; ++row) {
      for (int64_t lane = 0; lane < patch_.lanes; ++lane) {
        body(row * patch_.stride + lane, query(row, lane), key(row, lane));
      }
    }
  }

 private:
  ProbePatch patch_;
  float *dot_ = nullptr, *p_ = nullptr;
  std::vector<GuardedMemory> memory_;
};

bool is_near(double got, double want, double tolerance) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::abs(got - want) <= tolerance * (1 + std::abs(want));
}

struct Level {
  Probe run;
  ProbeFloats floats;
};
Level level_of(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kV2) return {program_probe_v2, program_probe_floats_v2};
  if (isa == Isa::kV3) return {program_probe_v3, program_probe_floats_v3};
  if (isa == Isa::kV4) return {program_probe_v4, program_probe_floats_v4};
#endif
  return {nullptr, nullptr};
}

constexpr int64_t kMostLanes = 48, kMostRows = 64;

// Tiles of queries or rows of queries, at the ends of T and S and inside.
std::vector<ProbePatch> patches(bool lanes_are_queries) {
  const int64_t lanes_end = lanes_are_queries ? T : S, rows_end = lanes_are_queries ? S : T;
  const auto at = [&](int64_t lane0, int64_t row0, int64_t lanes, int64_t rows, int64_t stride) {
    return ProbePatch{lanes_are_queries, lane0,   row0,    lanes,   rows,   stride,
                      nullptr,           nullptr, nullptr, nullptr, nullptr};
  };
  return {at(0, 0, 48, 64, 48),
          at(0, rows_end - 33, 48, 33, 48),
          at(0, 7, 48, 16, 64),
          at(17, 7, 48, 5, 48),
          at(lanes_end - 35, rows_end - 64, 35, 64, 48),
          at(lanes_end - 1, rows_end - 1, 1, 1, 16),
          at(lanes_end - 1, 3, 1, 31, 32),
          at(5, 11, 15, 17, 16),
          at(lanes_end - 17, 0, 17, 8, 48),
          at(lanes_end - 47, rows_end - 1, 47, 1, 48),
          at(2, rows_end - 48, 32, 48, 32)};
}

class Comparison {
 public:
  Comparison(const BoundProgram& bound, double tolerance, bool want_tables)
      : bound_(bound), tolerance_(tolerance), want_tables_(want_tables) {
    for (const GradientBlock& block : bound.gradient_blocks()) {
      const int64_t size = block.once ? sizeof(float) : sizeof(double);
      d_tables_.emplace_back(block.size * size, GuardedMemory::Side::kEndsAtPage);
    }
  }

  void run(Isa isa, const Expected& expected, int64_t b, int64_t h, bool lanes_are_queries) {
    std::vector<GuardedPatch> guarded;
    for (const ProbePatch& patch : patches(lanes_are_queries)) guarded.emplace_back(patch);
    std::vector<ProbePatch> probes;
    for (GuardedPatch& patch : guarded) {
      patch.fill(expected);
      probes.push_back(patch.patch());
      if (!bound_.has_mask()) probes.back().masked = nullptr;
    }
    std::vector<TableTarget> d_tables;
    for (size_t i = 0; i < d_tables_.size(); ++i) {
      const GradientBlock& block = bound_.gradient_blocks()[i];
      std::byte* const data = d_tables_[i].data();
      // Every second one is not wanted.
      TableTarget& target = d_tables.emplace_back();
      if (!want_tables_ && i % 2 == 0) continue;
      if (block.once) {
        target.elements = reinterpret_cast<float*>(data);
        std::fill_n(target.elements, block.size, 0.0f);
      } else {
        target.sums = reinterpret_cast<double*>(data);
        std::fill_n(target.sums, block.size, 0.0);
      }
    }
    ProbeHead head = {&bound_.code(), b, h, kMostLanes, kMostRows, nullptr, d_tables.data()};
    const Level level = level_of(isa);
    const GuardedMemory workspace(level.floats(head) * sizeof(float),
                                  GuardedMemory::Side::kEndsAtPage);
    head.workspace = reinterpret_cast<float*>(workspace.data());
    level.run(head, probes.data(), static_cast<int64_t>(probes.size()));
    for (const GuardedPatch& patch : guarded) compare(patch, expected);
    compare_tables(guarded, expected, d_tables, b, h);
  }

 private:
  void compare(const GuardedPatch& patch, const Expected& expected) {
    const ProbePatch& probe = patch.patch();
    SCOPED_TRACE(::testing::Message()
                 << "lanes " << probe.lane0 << "+" << probe.lanes << " rows " << probe.row0 << "+"
                 << probe.rows << " stride " << probe.stride);
    int wrong = 0;
    patch.for_each([&](int64_t at, int64_t t, int64_t s) {
      if (wrong > 3) return;
      const int64_t pair = t * S + s;
      const auto check = [&](const char* what, double got, double want) {
        if (is_near(got, want, tolerance_)) return;
        ADD_FAILURE() << what << " at t " << t << " s " << s << ": " << got << ", not " << want;
        ++wrong;
      };
      // What the mask says of the product is in the score.
      const bool may_hide = !expected.visible[pair] && std::isinf(probe.scores[at]);
      if (!may_hide) check("score", probe.scores[at], expected.score[pair]);
      if (bound_.has_mask() && expected.in_band[pair] && !may_hide) {
        const bool seen = probe.masked[at] == 1.0f || std::isnan(probe.masked[at]);
        check("mask", seen && !std::isnan(probe.masked[at]),
              expected.visible[pair] && !hidden_at(t, s));
        if (!expected.visible[pair]) check("masked", probe.masked[at], -kInfinite);
      }
      check("gradient", probe.g[at], probe.p[at] == 0 ? 0 : expected.d_dot[pair]);
    });
    for (int64_t row = 0; row < probe.rows; ++row) {
      for (int64_t lane = (probe.lanes + 15) / 16 * 16; lane < probe.stride; ++lane) {
        ASSERT_EQ(probe.scores[row * probe.stride + lane], GuardedPatch::kPadding);
      }
    }
  }

  void compare_tables(const std::vector<GuardedPatch>& guarded, const Expected& expected,
                      const std::vector<TableTarget>& d_tables, int64_t b, int64_t h) {
    const std::vector<GradientBlock>& blocks = bound_.gradient_blocks();
    std::vector<std::vector<double>> want, size;
    for (const GradientBlock& block : blocks) {
      want.emplace_back(block.size);
      size.emplace_back(block.size);
    }
    for (const GuardedPatch& patch : guarded) {
      patch.for_each([&](int64_t at, int64_t t, int64_t s) {
        if (patch.patch().p[at] == 0) return;
        for (const Expected::Output& output : expected.outputs) {
          const double value = output.value[t * S + s];
          const GradientBlock& block = blocks[output.table];
          const int64_t at = output.offset[t * S + s] - b * block.batch - h * block.head;
          want[output.table].at(at) += value;
          size[output.table].at(at) += std::abs(value);
        }
      });
    }
    for (size_t table = 0; table < want.size(); ++table) {
      const auto& [sums, elements] = d_tables[table];
      if (sums == nullptr && elements == nullptr) continue;
      int wrong = 0;
      for (int64_t i = 0; i < blocks[table].size && wrong < 4; ++i) {
        const double got = sums != nullptr ? sums[i] : elements[i];
        if (std::abs(got - want[table][i]) <= tolerance_ * (1 + size[table][i])) continue;
        ADD_FAILURE() << "gradient of table " << table << " at " << i << ": " << got << ", not "
                      << want[table][i];
        ++wrong;
      }
    }
  }

  const BoundProgram& bound_;
  const double tolerance_;
  const bool want_tables_;
  std::vector<GuardedMemory> d_tables_;
};

template <class Body>
void for_each_vector_isa(Body body) {
  for (const Isa isa : tested_isas()) {
    if (level_of(isa).run == nullptr) continue;
    SCOPED_TRACE(isa_name(isa));
    body(isa);
  }
}

void check(const Case& test, const Tables::Options& options, bool want_tables = true) {
  SCOPED_TRACE(test.name);
  Tables tables(options);
  const ScoreProgram program = test.make(tables);
  const BoundProgram bound(program.program, program.tables, {B, H, T, S});
  Comparison comparison(bound, test.tolerance, want_tables);
  const int64_t b = 1, h = 2;
  const Expected expected = expected_of(bound, b, h);
  for (const bool lanes_are_queries : {true, false}) {
    SCOPED_TRACE(lanes_are_queries ? "lanes are queries" : "lanes are keys");
    for_each_vector_isa([&](Isa isa) { comparison.run(isa, expected, b, h, lanes_are_queries); });
  }
}

TEST(ProgramKernels, MechanismsAreAsTheInterpreterHasThem) {
  for (const Case& test : mechanisms()) check(test, {.seed = 5});
}

TEST(ProgramKernels, OperationsAreAsTheInterpreterHasThem) {
  for (const Case& test : operations()) check(test, {.seed = 6});
}

TEST(ProgramKernels, NothingIsReadPastATablesEnds) {
  for (const Case& test : mechanisms()) {
    check(test, {.seed = 7, .layout = Layout::kEndsAtPage});
    check(test, {.seed = 8, .layout = Layout::kBeginsAtPage});
  }
}

TEST(ProgramKernels, TablesLieInAnyOrder) {
  for (unsigned seed = 9; seed < 13; ++seed) {
    for (const Case& test : mechanisms()) check(test, {.seed = seed, .layout = Layout::kRandom});
  }
}

TEST(ProgramKernels, TablesAreOfAnyType) {
  for (const Element element : {Element::kBFloat16, Element::kFloat16}) {
    for (const Layout layout : {Layout::kEndsAtPage, Layout::kRandom}) {
      for (const Case& test : mechanisms()) {
        check(test, {.seed = 14, .layout = layout, .floats = element});
      }
    }
  }
  for (const Case& test : mechanisms()) {
    check(test, {.seed = 15, .layout = Layout::kEndsAtPage, .as_double = true});
  }
}

// Its offsets do not fit 32 bits; most of its memory is never touched.
TEST(ProgramKernels, TablesMayBeFarApart) {
  constexpr int64_t kStride = int64_t{1} << 31, kSize = kStride + 41;
  void* memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  bool* bits = static_cast<bool*>(memory);
  for (int64_t i = 0; i < 41; ++i) {
    bits[i] = i % 3 == 0;
    bits[kStride + i] = i % 5 == 0;
  }
  const Table far(TableView{memory, Element::kBool, {2, 41}, {kStride, 1}});
  check({"guarded",
         [&](Tables&) {
           const Expression near = abs(t() - s()) <= 20;
           return ScoreProgram(score() + where(far.at({t() % 2, t() - s() + 20}), 1.0, 2.0), near);
         }},
        {});
  check({"plain",
         [&](Tables&) {
           return of(score() + where(far.at({1 - s() % 2, (t() + s()) % 41}), 1.0, 2.0));
         }},
        {});
  munmap(memory, kSize);
}

// One row of dots.
std::vector<float> scores_of(Isa isa, const BoundProgram& bound, const std::vector<float>& dots) {
  const auto lanes = static_cast<int64_t>(dots.size()), stride = (lanes + 15) / 16 * 16;
  std::vector<float> scores = dots;
  scores.resize(stride);
  ProbeHead head = {&bound.code(), 0, 0, lanes, 1, nullptr, nullptr};
  std::vector<float> workspace(level_of(isa).floats(head));
  head.workspace = workspace.data();
  const ProbePatch patch = {false,         0,       0,       lanes,   1,      stride,
                            scores.data(), nullptr, nullptr, nullptr, nullptr};
  level_of(isa).run(head, &patch, 1);
  scores.resize(lanes);
  return scores;
}

std::vector<float> extreme_floats() {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {0.0f,   1.0f,       2.0f,        3.0f,        0.5f,        0.75f,
                          1e-3f,  7.3f,       20.0f,       87.5f,       88.9f,       103.0f,
                          110.0f, 1.0000001f, 0.99999994f, 1e-30f,      1.2e-38f,    1e-41f,
                          1e-45f, 1e30f,      3.4e38f,     16777216.0f, 16777217.0f, infinity};
  const size_t half = x.size();
  for (size_t i = 0; i < half; ++i) x.push_back(-x[i]);
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  return x;
}

// Relative, and as far as denormals are apart.
bool is_as_float(float got, double want, double tolerance) {
  if (std::isnan(want)) return std::isnan(got);
  const auto rounded = static_cast<float>(want);
  if (std::isinf(rounded) || std::isinf(got)) return got == rounded || std::abs(want) > 3.4e38;
  return std::abs(got - want) <= tolerance * std::abs(want) + 3e-45;
}

TEST(ProgramKernels, FunctionsTakeAllFloats) {
  const std::vector<float> x = extreme_floats();
  const auto n = static_cast<int64_t>(x.size());
  const std::vector<std::pair<const char*, Expression>> functions = {
      {"exp", exp(score())},
      {"log", log(score())},
      {"sigmoid", sigmoid(score())},
      {"sqrt", sqrt(score())},
      {"floor", floor(score())},
      {"tanh", tanh(score())},
      {"abs", abs(score())},
      {"cap", 3 * tanh(score() / 3)},
      {"min", min(score(), 1)},
      {"max", max(1, score())},
      {"not less", where(!(score() < 1), score(), 2)}};
  for (const auto& [name, function] : functions) {
    SCOPED_TRACE(name);
    const ScoreProgram program(function);
    const BoundProgram bound(program.program, program.tables, {1, 1, 1, n});
    for_each_vector_isa([&](Isa isa) {
      const std::vector<float> y = scores_of(isa, bound, x);
      for (int64_t s = 0; s < n; ++s) {
        const double want = bound.value(bound.program().score(), {0, 0, 0, s, x[s], 0});
        EXPECT_TRUE(is_as_float(y[s], want, 7e-7)) << x[s] << ": " << y[s] << ", not " << want;
      }
    });
  }
}

TEST(ProgramKernels, PowersAreAsInC) {
  const std::vector<float> x = extreme_floats();
  const auto n = static_cast<int64_t>(x.size());
  const ScoreProgram program(pow(score(), Table(x.data(), {n})[s()]));
  const BoundProgram bound(program.program, program.tables, {1, 1, 1, n});
  for_each_vector_isa([&](Isa isa) {
    for (const float base : x) {
      const std::vector<float> y = scores_of(isa, bound, std::vector<float>(n, base));
      for (int64_t s = 0; s < n; ++s) {
        const double want = std::pow(static_cast<double>(base), static_cast<double>(x[s]));
        EXPECT_TRUE(is_as_float(y[s], want, 2e-7))
            << base << " to " << x[s] << ": " << y[s] << ", not " << want;
      }
    }
  });
}

TEST(ProgramKernels, GradientsThatNobodyWantsAreLeftOut) {
  for (const Case& test : mechanisms()) check(test, {.seed = 16}, /*want_tables=*/false);
}

}  // namespace
}  // namespace heed::testing
