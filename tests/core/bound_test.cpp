// Bound programs: bounds, bands, spans and intervals against brute force over every pair.
#include "heed/core/program/bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "heed/core/program/bytecode.h"
#include "heed/core/program/gradient_blocks.h"
#include "heed/core/program/ranges.h"
#include "heed/core/program/summaries.h"

namespace heed::program {
namespace {

template <class Item>
constexpr Element element_of() {
  if constexpr (std::is_same_v<Item, float>) return Element::kFloat32;
  if constexpr (std::is_same_v<Item, double>) return Element::kFloat64;
  if constexpr (std::is_same_v<Item, int32_t>) return Element::kInt32;
  if constexpr (std::is_same_v<Item, int64_t>) return Element::kInt64;
  return Element::kBool;
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (int d = static_cast<int>(sizes.size()) - 2; d >= 0; --d) {
    strides[d] = strides[d + 1] * sizes[d + 1];
  }
  return strides;
}

template <class Item>
TableView view(const std::vector<Item>& items, std::vector<int64_t> sizes) {
  std::vector<int64_t> strides = dense_strides(sizes);
  return {items.data(), element_of<Item>(), std::move(sizes), std::move(strides)};
}
template <class Item>
TableView view(const std::vector<Item>& items) {
  return view(items, {static_cast<int64_t>(items.size())});
}

using Bools = std::unique_ptr<bool[]>;
TableView view(const Bools& items, std::vector<int64_t> sizes) {
  std::vector<int64_t> strides = dense_strides(sizes);
  return {items.get(), Element::kBool, std::move(sizes), std::move(strides)};
}

std::unique_ptr<BoundProgram> bind(const std::string& text, const Sizes& sizes,
                                   std::vector<TableView> tables = {}) {
  return std::make_unique<BoundProgram>(parse(text), std::move(tables), sizes);
}

std::string error_of(const std::string& text, const Sizes& sizes,
                     std::vector<TableView> tables = {}) {
  try {
    bind(text, sizes, std::move(tables));
  } catch (const ProgramError& error) {
    return error.what();
  }
  return "";
}

int64_t draw(std::mt19937& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

// ---- Tables ----

TEST(Bound, TablesMustBeThoseOfTheProgram) {
  const std::vector<float> reals(4);
  const std::vector<int64_t> ints(4);
  const std::string text = "table0: float[1]\nscore = dot + table0[h]";
  const Sizes sizes = {1, 4, 2, 2};
  EXPECT_EQ(error_of(text, sizes), "tables: expected 1, got 0");
  EXPECT_EQ(error_of(text, sizes, {view(ints)}), "table0: expected float[1], got int[1]");
  EXPECT_EQ(error_of(text, sizes, {view(reals, {2, 2})}),
            "table0: expected float[1], got float[2]");
  EXPECT_EQ(error_of(text, sizes, {view(reals)}), "");
}

// ---- Indices ----

TEST(Bound, IndexThatLeavesItsTableIsNamed) {
  const std::vector<float> bias(4 * 512);
  const std::string text = "table0: float[2]\nscore = dot + table0[h, t - s]";
  EXPECT_EQ(error_of(text, {1, 4, 1024, 1024}, {view(bias, {4, 512})}),
            "table0[h, t - s]: index 1 (t - s) can be 1023, the table has 512");
  EXPECT_EQ(error_of(text, {1, 5, 256, 256}, {view(bias, {4, 512})}),
            "table0[h, t - s]: index 0 (h) can be 4, the table has 4");
  EXPECT_EQ(error_of(text, {1, 4, 256, 600}, {view(bias, {4, 512})}),
            "table0[h, t - s]: index 1 (t - s) can be -599, the table has 512");
  EXPECT_EQ(error_of(text, {1, 4, 512, 513}, {view(bias, {4, 512})}), "");
  EXPECT_EQ(error_of(text, {1, 4, 512, 514}, {view(bias, {4, 512})}),
            "table0[h, t - s]: index 1 (t - s) can be -513, the table has 512");
  EXPECT_EQ(error_of(text, {1, 4, 0, 1024}, {view(bias, {4, 512})}), "");
}

TEST(Bound, IndexFromRealsWithoutBoundsIsRefused) {
  const std::vector<float> bias(8);
  EXPECT_EQ(error_of("table0: float[1]\nscore = table0[int(dot)]", {1, 1, 4, 4}, {view(bias)}),
            "table0[int(dot)]: index 0 (int(dot)) can be inf, the table has 8");
}

TEST(Bound, IndexIsJudgedOverVisiblePairsOnly) {
  const std::vector<float> bias(32);
  const std::string score = "table0: float[1]\nscore = dot + table0[t - s]";
  const std::vector<TableView> tables = {view(bias)};
  const Sizes sizes = {1, 1, 100, 100};
  EXPECT_NE(error_of(score, sizes, tables), "");
  // The caller's band: causal, window 32.
  EXPECT_EQ(error_of(score, {1, 1, 100, 100, -31, 0}, tables), "");
  EXPECT_NE(error_of(score, {1, 1, 100, 100, -32, 0}, tables), "");
  // The program's own mask.
  EXPECT_EQ(error_of(score + "\nmask = (s <= t) & (t - s < 32)", sizes, tables), "");
  EXPECT_NE(error_of(score + "\nmask = (s <= t) & (t - s <= 32)", sizes, tables), "");
  EXPECT_EQ(error_of(score + "\nmask = abs(t - s) < 32", sizes, tables), "");
  EXPECT_NE(error_of(score + "\nmask = abs(t - s) < 40", sizes, tables), "");
  EXPECT_EQ(error_of(score + "\nmask = ~((t - s >= 32) | (s > t))", sizes, tables), "");
}

TEST(Bound, IndexIsJudgedUnderTheConditionOfWhere) {
  const std::vector<float> bias(32);
  const std::vector<TableView> tables = {view(bias)};
  const Sizes sizes = {1, 1, 100, 100};
  const auto error = [&](const std::string& score) {
    return error_of("table0: float[1]\nscore = dot + " + score, sizes, tables);
  };
  EXPECT_EQ(error("where((t - s >= 0) & (t - s < 32), table0[t - s], 0.0)"), "");
  EXPECT_EQ(error("where((t - s < 0) | (t - s >= 32), 0.0, table0[t - s])"), "");
  EXPECT_EQ(error("where(s - t > -32, where(s <= t, table0[t - s], 1.0), 0.0)"), "");
  EXPECT_EQ(error("where(t < 32, table0[t], 0.0)"), "");
  EXPECT_NE(error("where(t - s < 33, table0[t - s], 0.0)"), "");
  EXPECT_NE(error("where(t < 33, table0[t], 0.0)"), "");
  EXPECT_NE(error("where(t < 32, 0.0, table0[t])"), "");
  // Used outside the choice, too.
  EXPECT_NE(error("where(t < 32, table0[t], 0.0) + table0[t]"), "");
}

TEST(Bound, BucketsOfRelativePositionsAreWithinTheirTable) {
  const std::vector<float> bias(32 * 8);
  const std::string text =
      "table0: float[2]\n"
      "n = max(t - s, 0)\n"
      "large = 16 + int(log(n / 16) / log(128 / 16) * 16)\n"
      "score = dot + table0[where(n < 16, n, min(large, 31)), h]";
  EXPECT_EQ(error_of(text, {1, 8, 2000, 2000}, {view(bias, {32, 8})}), "");
  EXPECT_NE(error_of(text, {1, 8, 2000, 2000}, {view(bias, {31, 8})}), "");
}

TEST(Bound, IndexOfALookupIsBoundedByItsTablesValues) {
  const std::vector<float> bias(8);
  std::vector<int64_t> ids = {0, 3, 7, -8};
  const std::string text = "table0: float[1]\ntable1: int[1]\nscore = dot + table0[table1[t]]";
  const Sizes sizes = {1, 1, 4, 4};
  EXPECT_EQ(error_of(text, sizes, {view(bias), view(ids)}), "");
  ids[1] = 8;
  EXPECT_EQ(error_of(text, sizes, {view(bias), view(ids)}),
            "table0[table1[t]]: index 0 (table1[t]) can be 8, the table has 8");
}

TEST(Bound, NegativeIndicesCountFromTheEnd) {
  const std::vector<float> bias = {0, 1, 2, 3, 4, 5, 6};
  const auto bound = bind("table0: float[1]\nscore = table0[t - s]", {1, 1, 4, 4}, {view(bias)});
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t s = 0; s < 4; ++s) {
      const double expected = t >= s ? t - s : 7 + t - s;
      EXPECT_EQ(bound->value(bound->program().score(), {0, 0, t, s, 0, 0}), expected);
    }
  }
}

TEST(Bound, LookupsThatCanLeaveTheirTableAreGuarded) {
  const std::vector<float> bias(100);
  const auto guarded = [&](const std::string& index) {
    const auto bound = bind("table0: float[1]\nscore = dot + table0[" + index + "]",
                            {1, 1, 100, 100, -99, 0}, {view(bias)});
    EXPECT_EQ(bound->code().lookups.size, 2);  // forward, and its gradient
    const Lookup& lookup = bound->code().lookups.data[0];
    const Index* const first = bound->code().indices.data + lookup.first_index;
    return std::any_of(first, first + lookup.indices, [](const Index& x) { return x.guarded; });
  };
  EXPECT_FALSE(guarded("abs(t - s)"));
  EXPECT_FALSE(guarded("t"));
  EXPECT_TRUE(guarded("t - s"));                      // negative beyond the band
  EXPECT_TRUE(guarded("-1 - s"));                     // counts from the end
  EXPECT_TRUE(guarded("int(sqrt(float(t)) * 0.5)"));  // as kernels round
}

// Of the only table of a program with B = 2, H = 3, T = S = 8: the block, and what is said of it.
struct Reach {
  int64_t size;
  bool owned, once, strays;
  bool operator==(const Reach&) const = default;
};
std::ostream& operator<<(std::ostream& stream, const Reach& x) {
  return stream << x.size << (x.owned ? " owned" : "") << (x.once ? " once" : "")
                << (x.strays ? " strays" : "");
}
Reach reach_of(const std::vector<int64_t>& sizes, const std::string& score, int64_t B = 2) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  const std::vector<float> numbers(count);
  const TableView table = {numbers.data(), Element::kFloat32, sizes, dense_strides(sizes)};
  const auto bound =
      bind("table0: float[" + std::to_string(sizes.size()) + "]\n" + score, {B, 3, 8, 8}, {table});
  const GradientBlock& block = bound->gradient_blocks()[0];
  return {block.size, block.owned, block.once, block.once && block.strays};
}

TEST(Bound, GradientsTakeWhatAHeadReaches) {
  // Two pairs meet in an element: a head's own block, heads that share one, the whole table.
  EXPECT_EQ(reach_of({2, 3, 8}, "score = dot + table0[b, h, s]"), (Reach{8, true, false, false}));
  EXPECT_EQ(reach_of({3, 2, 8, 5}, "score = dot + table0[h, b, t, max(min(t - s, 2), -2) + 2]"),
            (Reach{40, true, false, false}));
  EXPECT_EQ(reach_of({3, 8, 8}, "score = dot + table0[h, t, s]"), (Reach{64, false, false, false}));
  EXPECT_EQ(reach_of({15, 3}, "score = dot + table0[t - s + 7, h]"),
            (Reach{45, false, false, false}));
  EXPECT_EQ(reach_of({2, 3, 8}, "score = dot + table0[b, h, t] * table0[b, 2 - h, s]"),
            (Reach{24, false, false, false}));
  EXPECT_EQ(reach_of({2, 3, 8, 8}, "score = dot + table0[b, h, t, s] * table0[b, h, s, t]"),
            (Reach{64, true, false, false}));
  EXPECT_EQ(reach_of({3, 9}, "score = dot + table0[h, t - s + 1]\nmask = abs(t - s) <= 1", 1),
            (Reach{9, true, false, false}));
  // None do, wherever b and h stand.
  const Reach once = {384, false, true, false}, strays = {384, false, true, true};
  EXPECT_EQ(reach_of({2, 3, 8, 8}, "score = dot + table0[b, h, t, s]"), once);
  EXPECT_EQ(reach_of({8, 3, 2, 8}, "score = dot + table0[t, h, b, 7 - s]"), once);
  EXPECT_EQ(reach_of({2, 3, 4, 16}, "score = dot + table0[b, h, s // 2, 2 * t]"),
            (Reach{64, true, false, false}));
  EXPECT_EQ(reach_of({3, 8, 16}, "score = dot + table0[h, s, t - s + 8]", 1), once);
  EXPECT_EQ(reach_of({2, 3, 8, 8}, "score = dot + table0[b, h, t, t - s]\nmask = s <= t"), strays);
}

TEST(Bound, ElementsOutsideTheTableAreTheNearest) {
  const std::vector<float> bias = {1, 2, 3};
  const auto bound = bind("table0: float[1]\nscore = where(s <= t, table0[t - s], 9.0)",
                          {1, 1, 3, 3, -2, 2}, {view(bias)});
  for (int id = 0; id < bound->program().graph().size(); ++id) {
    if (bound->program().graph()[id].op != Op::kLookup) continue;
    EXPECT_EQ(bound->value(id, {0, 0, 50, 0, 0, 0}), 3);
    EXPECT_EQ(bound->offset(id, {0, 0, 50, 0, 0, 0}), 2);
    EXPECT_EQ(bound->offset(id, {0, 0, 0, 50, 0, 0}), 0);
    EXPECT_EQ(bound->offset(id, {0, 0, 1, 0, 0, 0}), 1);
  }
}

TEST(Bound, OffsetsAreDenseWhateverTheStrides) {
  const std::vector<float> bias(24);
  TableView table = view(bias, {2, 3, 4});
  table.strides = {1, 0, -2};
  table.data = bias.data() + 8;
  const auto bound = bind("table0: float[3]\nscore = dot + table0[b, h, s]", {2, 3, 1, 4}, {table});
  const int lookup = bound->program().table_gradients()[0].lookup;
  EXPECT_EQ(bound->offset(lookup, {1, 2, 0, 3, 0, 0}), 23);
  EXPECT_EQ(bound->offset(lookup, {0, 1, 0, 2, 0, 0}), 6);
}

// ---- Integers ----

TEST(Bound, IntegersStayWithinWhatFloatsHold) {
  const Sizes sizes = {1, 1, 8192, 8192};
  EXPECT_EQ(error_of("score = dot + (t * 4096 + s) * 1e-6", sizes),
            "4096 * t can be 33550336: kernels hold integers in floats up to 2^24");
  EXPECT_EQ(error_of("score = dot + (t * 2048) * 1e-6", sizes), "");
  EXPECT_EQ(error_of("score = dot + t * s * 1e-6", sizes),
            "t * s can be 67092481: kernels hold integers in floats up to 2^24");
  EXPECT_EQ(error_of("score = dot + where(s <= t, 0, -1000000000)", sizes), "");
  const std::vector<int64_t> ids = {1, int64_t{1} << 24, 2};
  const std::vector<int64_t> large = {1, (int64_t{1} << 24) + 1, 2};
  const std::string lookup = "table0: int[1]\nscore = dot + table0[t]";
  EXPECT_EQ(error_of(lookup, {1, 1, 3, 3}, {view(ids)}), "");
  EXPECT_NE(error_of(lookup, {1, 1, 3, 3}, {view(large)}), "");
}

// ---- Bands and spans ----

struct Masked {
  const char* name;
  std::string text;
  std::vector<TableView> tables;
  Sizes sizes;
  bool is_band = false;   // nothing but the band is left
  bool is_exact = false;  // each cell is known where its pairs are all alike
};

bool in_band(const Band& band, int64_t t, int64_t s) {
  return s >= first_key(band, t) && s < end_key(band, t);
}

// What a cell of pairs is, by brute force.
struct Count {
  int64_t pairs = 0, visible = 0;
};

class MaskCheck {
 public:
  explicit MaskCheck(const Masked& masked)
      : bound_(bind("score = dot\n", {})), sizes_(masked.sizes), exact_(masked.is_exact) {
    bound_ = bind(masked.text, masked.sizes, masked.tables);
    EXPECT_EQ(bound_->has_mask(), !masked.is_band) << masked.name;
  }

  void check_head(int64_t b, int64_t h) {
    band_ = bound_->tighten({-kUnbounded, kUnbounded, sizes_.S}, b, h);
    visible_.assign(sizes_.T * sizes_.S, false);
    for (int64_t t = 0; t < sizes_.T; ++t) {
      for (int64_t s = 0; s < sizes_.S; ++s) {
        const bool seen = bound_->visible({b, h, t, s, 0, 0});
        visible_[t * sizes_.S + s] = seen;
        if (!bound_->has_mask()) {
          ASSERT_EQ(in_band(band_, t, s), seen) << "t " << t << " s " << s;
        } else if (seen) {
          ASSERT_TRUE(in_band(band_, t, s)) << "t " << t << " s " << s;
        }
      }
    }
  }

  void check_spans(int64_t b, int64_t h, int64_t t_first, int64_t t_last, int64_t begin,
                   int64_t end, int64_t step) {
    std::vector<Span> spans = {{-7, -5, true}};
    bound_->spans(b, h, t_first, t_last, begin, end, step, spans);
    int64_t at = begin;
    const Span* before = nullptr;
    for (const Span& span : spans) {
      ASSERT_LE(at, span.begin);
      ASSERT_LT(span.begin, span.end);
      ASSERT_LE(span.end, end);
      const bool joins = before != nullptr && before->end == span.begin;
      ASSERT_FALSE(joins && before->masked == span.masked) << "not merged";
      for (const int64_t cut : {span.begin, span.end}) {
        ASSERT_TRUE(cut % step == 0 || cut == begin || cut == end) << "cut at " << cut;
      }
      check_keys(t_first, t_last, at, span.begin, /*seen=*/false);
      if (!span.masked) check_keys(t_first, t_last, span.begin, span.end, /*seen=*/true);
      if (span.masked && exact_) check_mixed(t_first, t_last, span.begin, span.end, step);
      at = span.end;
      before = &span;
    }
    check_keys(t_first, t_last, at, end, /*seen=*/false);
  }

  const BoundProgram& bound() const { return *bound_; }

 private:
  void check_keys(int64_t t_first, int64_t t_last, int64_t begin, int64_t end, bool seen) const {
    for (int64_t t = t_first; t <= t_last; ++t) {
      for (int64_t s = begin; s < end; ++s) {
        const bool expected = seen && in_band(band_, t, s);
        ASSERT_EQ(visible_[t * sizes_.S + s], expected) << "t " << t << " s " << s;
      }
    }
  }
  // Every cell has pairs of both kinds.
  void check_mixed(int64_t t_first, int64_t t_last, int64_t begin, int64_t end,
                   int64_t step) const {
    for (int64_t cell = begin; cell < end; cell = (cell / step + 1) * step) {
      Count count;
      for (int64_t t = t_first; t <= t_last; ++t) {
        for (int64_t s = cell; s < std::min(end, (cell / step + 1) * step); ++s) {
          ++count.pairs;
          count.visible += visible_[t * sizes_.S + s];
        }
      }
      ASSERT_TRUE(0 < count.visible && count.visible < count.pairs) << "cell " << cell;
    }
  }

  std::unique_ptr<BoundProgram> bound_;
  Sizes sizes_;
  bool exact_;
  Band band_ = {};
  std::vector<bool> visible_;
};

// Tiles of queries and ranges of keys, aligned and not.
void check_mask(const Masked& masked, std::mt19937& random) {
  SCOPED_TRACE(std::string(masked.name) + ":\n" + masked.text);
  MaskCheck check(masked);
  const Sizes& sizes = masked.sizes;
  for (int64_t b = 0; b < sizes.B; ++b) {
    for (int64_t h = 0; h < sizes.H; ++h) {
      check.check_head(b, h);
      if (::testing::Test::HasFatalFailure()) return;
      for (int i = 0; i < 40; ++i) {
        const int64_t step = std::array<int64_t, 4>{96, 64, 16, 5}[i % 4];
        const int64_t t_first = draw(random, 0, sizes.T - 1);
        const int64_t t_last = std::min(sizes.T - 1, t_first + draw(random, 0, 60));
        const bool all = i % 3 == 0;
        const int64_t begin = all ? 0 : draw(random, 0, sizes.S - 1);
        const int64_t end = all ? sizes.S : draw(random, begin, sizes.S);
        check.check_spans(b, h, t_first, t_last, begin, end, step);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

std::vector<int64_t> documents(int64_t count, int64_t longest, std::mt19937& random) {
  std::vector<int64_t> ids;
  for (int64_t id = 0; static_cast<int64_t>(ids.size()) < count; ++id) {
    ids.insert(ids.end(), draw(random, 1, longest), id);
  }
  ids.resize(count);
  return ids;
}

Bools random_blocks(int64_t T, int64_t S, int64_t block, std::mt19937& random) {
  Bools items(new bool[T * S]);
  const int64_t columns = S / block + 1;
  std::vector<int> kinds((T / block + 1) * columns);
  for (int& kind : kinds) kind = static_cast<int>(draw(random, 0, 2));
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t s = 0; s < S; ++s) {
      const int kind = kinds[t / block * columns + s / block];
      items[t * S + s] = kind == 2 ? draw(random, 0, 1) != 0 : kind == 1;
    }
  }
  return items;
}

TEST(Bound, BandsSayWhatMasksOfPositionsSay) {
  std::mt19937 random(1);
  const std::vector<int64_t> lengths = {0, 37, 130}, windows = {3, 60};
  const std::vector<float> reals = {2.5f, -1.0f}, nan = {NAN, INFINITY};
  const Sizes sizes = {3, 2, 70, 130};
  const std::string ints = "table0: int[1]\nmask = ", floats = "table0: float[1]\nmask = ";
  const std::vector<Masked> cases = {
      {"causal", "mask = s <= t", {}, sizes, true},
      {"strict", "mask = s < t", {}, sizes, true},
      {"shifted", "mask = t + 60 >= s", {}, sizes, true},
      {"window", "mask = (t - s < 9) & (t - s >= -3)", {}, sizes, true},
      {"distance", "mask = abs(t - s) <= 7", {}, sizes, true},
      {"strict distance", "mask = abs(s - t) < 7.5", {}, sizes, true},
      {"diagonal", "mask = t == s - 5", {}, sizes, true},
      {"no diagonal", "mask = float(t - s) == 0.5", {}, sizes, true},
      {"lengths", ints + "s < table0[b]", {view(lengths)}, sizes, true},
      {"windows", ints + "abs(t - s) <= table0[h] + h", {view(windows)}, sizes, true},
      {"real windows",
       floats + "(t - s <= table0[h]) & (s - t < 2.0 * table0[h])",
       {view(reals)},
       sizes,
       true},
      {"NaN", floats + "t - s <= table0[h]", {view(nan)}, sizes, true},
      {"bottom right", ints + "s - t < table0[b] - 70", {view(lengths)}, sizes, true},
      {"real limit", "mask = s < 7.25", {}, sizes, true},
      {"negated", "mask = ~(s > t)", {}, sizes, true},
  };
  for (const Masked& masked : cases) check_mask(masked, random);
}

TEST(Bound, BandsAreLeftOfTheCallersOwn) {
  const auto bound = bind("mask = (t - s <= 20) & (s < 90)", {1, 1, 100, 100});
  const Band band = bound->tighten({-50, 3, 80}, 0, 0);
  EXPECT_EQ(band.left, -20);
  EXPECT_EQ(band.right, 3);
  EXPECT_EQ(band.limit, 80);
}

TEST(Bound, SpansAgreeWithEveryPair) {
  std::mt19937 random(2);
  const int64_t T = 300, S = 333;
  const Sizes one = {1, 1, T, S};
  const std::vector<int64_t> query_documents = documents(T, 90, random);
  const std::vector<int64_t> key_documents = documents(S, 90, random);
  const std::vector<int32_t> prefixes = {0, 100, 333};
  const Bools dense = random_blocks(T, S, 50, random);
  const Bools batched = random_blocks(2 * T, S, 80, random);
  const Bools blocks = random_blocks(5, 6, 1, random);
  TableView broadcast = view(batched, {2, 3, T, S});
  broadcast.strides = {T * S, 0, S, 1};
  TableView transposed = view(dense, {S, T});
  transposed.strides = {1, S};
  const std::string bools = "table0: bool[2]\nmask = ";
  const std::string same = "table0: int[1]\ntable1: int[1]\nmask = (table0[t] == table1[s])";
  const std::string natten = "mask = (abs(t // 18 - s // 18) <= 3) & (abs(t % 18 - s % 18) <= 3)";
  const std::vector<Masked> cases = {
      {"prefix",
       "table0: int[1]\nmask = (s <= t) | (s < table0[b])",
       {view(prefixes)},
       {3, 1, T, S}},
      {"global and local", "mask = (abs(t - s) <= 20) | (s < 10) | (t < 10)", {}, one},
      {"documents", same, {view(query_documents), view(key_documents)}, one},
      {"causal documents", same + " & (s <= t)", {view(query_documents), view(key_documents)}, one},
      {"natten", natten, {}, {1, 1, 324, 324}},
      {"dense", bools + "table0[t, s]", {view(dense, {T, S})}, one, false, true},
      {"transposed", bools + "table0[s, t]", {transposed}, one, false, true},
      {"broadcast",
       "table0: bool[4]\nmask = table0[b, h, t, s]",
       {broadcast},
       {2, 3, T, S},
       false,
       true},
      {"blocks", bools + "table0[t // 64, s // 64]", {view(blocks, {5, 6})}, one, false, true},
      {"dilated", "mask = ((t - s) % 4 == 0) & (s <= t)", {}, one},
      {"lower limit", "mask = s >= 7 + t // 2", {}, one},
      {"heads", "mask = (h == 1) | (s <= t)", {}, {1, 2, T, S}},
      {"never", "mask = (h == 5) & (s > 3)", {}, one},
  };
  for (const Masked& masked : cases) check_mask(masked, random);
}

TEST(Bound, SpansSkipWhatTheMaskLeavesOut) {
  const int64_t T = 4096, step = 64;
  std::vector<int64_t> ids(T);
  for (int64_t i = 0; i < T; ++i) ids[i] = i / 512;
  const auto bound =
      bind("table0: int[1]\nmask = (table0[t] == table0[s]) & (s <= t)", {1, 1, T, T}, {view(ids)});
  std::vector<Span> spans;
  bound->spans(0, 0, 1024, 1087, 0, T, step, spans);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].begin, 1024);
  EXPECT_EQ(spans[0].end, 1536);
  EXPECT_FALSE(spans[0].masked);
  bound->spans(0, 0, 1500, 1563, 0, T, step, spans);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].begin, 1024);
  EXPECT_EQ(spans[0].end, 2048);
  EXPECT_TRUE(spans[0].masked);
}

TEST(Bound, MasksThatReadTheProductGoIntoTheScore) {
  const auto bound = bind("mask = (dot > 0.5) & (s <= t) & (t % 3 != s)", {1, 1, 8, 8});
  EXPECT_TRUE(bound->has_mask());
  EXPECT_FALSE(bound->code().identity);
  EXPECT_TRUE(bound->visible({0, 0, 4, 4, 1.0, 0}));
  EXPECT_FALSE(bound->visible({0, 0, 4, 4, 0.25, 0}));
  EXPECT_FALSE(bound->visible({0, 0, 4, 5, 1.0, 0}));
}

// ---- Intervals ----

// Random expressions over everything, with tables of each type.
class Expressions {
 public:
  explicit Expressions(std::mt19937& random) : random_(random) {
    for (const Op leaf : {Op::kBatch, Op::kHead, Op::kQuery, Op::kKey, Op::kDot}) {
      nodes_.push_back(graph_.leaf(leaf));
    }
  }

  void grow(int count) {
    for (int i = 0; i < count; ++i) {
      try {
        nodes_.push_back(next());
      } catch (const ProgramError&) {  // types that do not fit
      }
    }
  }
  const Graph& graph() const { return graph_; }
  const std::vector<int>& nodes() const { return nodes_; }
  int latest(Type type) {
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
      if (graph_[*node].type == type) return *node;
    }
    return -1;
  }

 private:
  int pick() { return nodes_[draw(random_, 0, static_cast<int64_t>(nodes_.size()) - 1)]; }
  int index(int64_t size) {  // within a table, but for a negative one now and then
    const int node = latest(Type::kInt);
    const int length = graph_.constant(static_cast<double>(size), Type::kInt);
    return graph_.add(Op::kMod, {draw(random_, 0, 1) ? node : graph_.leaf(Op::kKey), length});
  }
  int next() {
    const int64_t kind = draw(random_, 0, 9);
    if (kind == 0) return graph_.constant(static_cast<double>(draw(random_, -5, 9)), Type::kInt);
    if (kind == 1) {
      return graph_.constant(static_cast<double>(draw(random_, -40, 40)) / 8, Type::kFloat);
    }
    if (kind == 2) {
      const int table = static_cast<int>(draw(random_, 0, 2));
      const Type types[] = {Type::kFloat, Type::kInt, Type::kBool};
      return graph_.lookup(table, types[table], {index(6), index(7)});
    }
    const auto op = static_cast<Op>(
        draw(random_, static_cast<int64_t>(Op::kNeg), static_cast<int64_t>(Op::kWhere)));
    if (op == Op::kCast) return graph_.cast(pick(), static_cast<Type>(draw(random_, 0, 2)));
    if (op <= Op::kCast) return graph_.add(op, {pick()});
    if (op != Op::kWhere) return graph_.add(op, {pick(), pick()});
    const int condition = latest(Type::kBool);
    return condition < 0 ? pick() : graph_.add(op, {condition, pick(), pick()});
  }

  std::mt19937& random_;
  Graph graph_;
  std::vector<int> nodes_;
};

TEST(Bound, IntervalsHoldEveryValue) {
  std::mt19937 random(3);
  std::vector<float> reals(42);
  std::vector<int32_t> ints(42);
  Bools bools(new bool[42]);
  for (int i = 0; i < 42; ++i) {
    reals[i] = static_cast<float>(draw(random, -30, 30)) / 4;
    ints[i] = static_cast<int32_t>(draw(random, -9, 9));
    bools[i] = draw(random, 0, 1) != 0;
  }
  reals[5] = NAN;
  reals[17] = INFINITY;
  const std::vector<TableView> tables = {view(reals, {6, 7}), view(ints, {6, 7}),
                                         view(bools, {6, 7})};
  int64_t checked = 0, finite = 0;
  for (int round = 0; round < 400; ++round) {
    Expressions expressions(random);
    expressions.grow(24);
    const Graph& graph = expressions.graph();
    Ranges ranges(graph, tables);
    const int root = graph.size() - 1;
    // Everything is summed up, as if each node was part of the mask.
    for (int i = 0; i < 6; ++i) {
      const int64_t b = draw(random, 0, 2), h = draw(random, 0, 3);
      const int64_t t = draw(random, 0, 40), s = draw(random, 0, 40);
      const Region region = {b, b, h, h, t, t + draw(random, 0, 9), s, s + draw(random, 0, 9)};
      if (i == 0) ranges.summarise(root, root);
      std::vector<Interval> values(graph.size());
      for (int id = 0; id < graph.size(); ++id) {
        values[id] = ranges.evaluate(id, region, values.data());
      }
      for (int j = 0; j < 10; ++j) {
        const Pair pair = {b,
                           h,
                           draw(random, region.t_first, region.t_last),
                           draw(random, region.s_first, region.s_last),
                           static_cast<double>(draw(random, -20, 20)) / 3,
                           0.0};
        for (const int id : expressions.nodes()) {
          const double x = evaluate(graph, tables, id, pair);
          const Interval& range = values[id];
          const bool inside = std::isnan(x) ? range.maybe_nan : range.low <= x && x <= range.high;
          ASSERT_TRUE(inside) << text_of(graph, id) << " is " << x << ", not in [" << range.low
                              << ", " << range.high << "] at t " << pair.t << " s " << pair.s
                              << ", round " << round;
          ++checked;
          finite += std::isfinite(range.low) && std::isfinite(range.high);
        }
      }
    }
  }
  EXPECT_GT(finite, checked / 2);  // and they say something
}

TEST(Bound, RandomMasksAgreeWithEveryPair) {
  std::mt19937 random(4);
  std::vector<float> reals(42);
  std::vector<int32_t> ints(42);
  Bools bools(new bool[42]);
  for (int i = 0; i < 42; ++i) {
    reals[i] = static_cast<float>(draw(random, -30, 30)) / 4;
    ints[i] = static_cast<int32_t>(draw(random, -9, 9));
    bools[i] = draw(random, 0, 1) != 0;
  }
  const std::vector<TableView> tables = {view(reals, {6, 7}), view(ints, {6, 7}),
                                         view(bools, {6, 7})};
  const std::vector<TableType> types = {{Type::kFloat, 2}, {Type::kInt, 2}, {Type::kBool, 2}};
  int checked = 0;
  for (int round = 0; round < 300; ++round) {
    Expressions expressions(random);
    expressions.grow(24);
    const int mask = expressions.latest(Type::kBool);
    if (mask < 0) continue;
    const auto program = std::make_shared<const Program>(expressions.graph(), -1, mask, types);
    SCOPED_TRACE(program->str());
    const Sizes sizes = {2, 2, 33, 41};
    std::unique_ptr<BoundProgram> bound;
    try {
      bound = std::make_unique<BoundProgram>(program, tables, sizes);
    } catch (const ProgramError&) {
      continue;
    }
    ++checked;
    for (int i = 0; i < 20; ++i) {
      const int64_t b = draw(random, 0, 1), h = draw(random, 0, 1);
      const Band band = bound->tighten({-kUnbounded, kUnbounded, sizes.S}, b, h);
      const int64_t t_first = draw(random, 0, 32), t_last = draw(random, t_first, 32);
      std::vector<Span> spans;
      bound->spans(b, h, t_first, t_last, 0, sizes.S, 8, spans);
      for (int64_t s = 0; s < sizes.S; ++s) {
        const auto span = std::find_if(spans.begin(), spans.end(),
                                       [&](const Span& x) { return x.begin <= s && s < x.end; });
        for (int64_t t = t_first; t <= t_last; ++t) {
          // Terms that read the product are the score's.
          const double dot = static_cast<double>(draw(random, -9, 9)) / 2;
          const bool seen = bound->visible({b, h, t, s, dot, 0});
          if (seen) {
            ASSERT_TRUE(span != spans.end() && in_band(band, t, s)) << t << ", " << s;
          }
          const bool sure = span != spans.end() && !span->masked && in_band(band, t, s);
          if (sure && bound->code().identity) {
            ASSERT_TRUE(seen) << t << ", " << s;
          }
        }
      }
    }
  }
  EXPECT_GT(checked, 100);
}

TEST(Bound, IntervalsOfPositionsAreTight) {
  const auto program = parse("score = where((t - s) % 64 < 8, dot, float(t // 16 * 16 - s))");
  const BoundProgram bound(program, {}, {1, 1, 256, 256});
  const Graph& graph = program->graph();
  const Box box = {0, 0, 64, 79, 70, 72};
  for (int id = 0; id < graph.size(); ++id) {
    const Interval range = bound.interval(id, box);
    const std::string text = text_of(graph, id);
    if (text == "t - s") {
      EXPECT_EQ(range.low, -8);
      EXPECT_EQ(range.high, 9);
    } else if (text == "t // 16") {
      EXPECT_EQ(range.low, 4);
      EXPECT_EQ(range.high, 4);
    } else if (text == "(t - s) % 64") {
      EXPECT_EQ(range.low, 0);
      EXPECT_EQ(range.high, 63);
    }
  }
  const Box inside = {0, 0, 100, 110, 20, 30};  // t - s in [70, 90]: one period
  for (int id = 0; id < graph.size(); ++id) {
    if (text_of(graph, id) != "(t - s) % 64") continue;
    EXPECT_EQ(bound.interval(id, inside).low, 6);
    EXPECT_EQ(bound.interval(id, inside).high, 26);
  }
}

// ---- Summaries ----

template <class Item>
void check_summary(const std::vector<Item>& items, const std::vector<int64_t>& sizes,
                   const std::vector<bool>& ranged, std::mt19937& random) {
  const TableView table = view(items, sizes);
  const TableSummary summary(table, ranged);
  for (int i = 0; i < 60; ++i) {
    Interval ranges[3];
    std::array<std::array<int64_t, 2>, 3> ends;
    for (int d = 0; d < 3; ++d) {
      const int64_t first = draw(random, 0, sizes[d] - 1);
      ends[d] = {first, ranged[d] ? draw(random, first, sizes[d] - 1) : first};
      ranges[d] = {static_cast<double>(ends[d][0]), static_cast<double>(ends[d][1])};
    }
    double low = INFINITY, high = -INFINITY;
    bool small = true;
    for (int64_t x = ends[0][0]; x <= ends[0][1]; ++x) {
      for (int64_t y = ends[1][0]; y <= ends[1][1]; ++y) {
        for (int64_t z = ends[2][0]; z <= ends[2][1]; ++z) {
          const double item = static_cast<double>(items[(x * sizes[1] + y) * sizes[2] + z]);
          low = std::min(low, item);
          high = std::max(high, item);
        }
      }
    }
    for (int d = 0; d < 3; ++d) small = small && ends[d][1] - ends[d][0] < 128;
    const int nodes[] = {0, 1, 2};
    const Interval answer = summary.query(ranges, nodes);
    EXPECT_LE(answer.low, low);
    EXPECT_GE(answer.high, high);
    if (small) {
      EXPECT_EQ(answer.low, low);
      EXPECT_EQ(answer.high, high);
    }
  }
}

TEST(Bound, SummariesAnswerRanges) {
  std::mt19937 random(5);
  std::vector<int64_t> ints(3 * 150 * 200);
  std::vector<float> reals(ints.size());
  for (std::size_t i = 0; i < ints.size(); ++i) {
    ints[i] = draw(random, -100000, 100000);
    reals[i] = static_cast<float>(draw(random, -1000, 1000)) / 7;
  }
  for (const std::vector<bool>& ranged : std::vector<std::vector<bool>>{{false, true, true},
                                                                        {false, false, true},
                                                                        {true, true, false},
                                                                        {false, true, false},
                                                                        {false, false, false}}) {
    check_summary(ints, {3, 150, 200}, ranged, random);
    check_summary(reals, {150, 3, 200}, ranged, random);
    check_summary(reals, {200, 150, 3}, ranged, random);
  }
}

}  // namespace
}  // namespace heed::program
