// Forward and backward of every kernel set against the reference in double, and the promises that
// hold beside the numbers: masks, NaN, bounds, and bits that depend on nothing but the problem.
#include "heed/core/attention.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <memory>

#include "heed/core/isa.h"
#include "tests/core/each_isa.h"
#include "tests/core/oracle.h"
#include "tests/core/problem.h"

namespace heed::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Element kElements[] = {Element::kFloat32, Element::kBFloat16, Element::kFloat16};

void expect_equal_to_reference(const Case& c) {
  SerialExecutor serial;
  SCOPED_TRACE(name_of(c));
  const Oracle oracle(c);
  with_element(c, [&]<class E>(E) {
    for_each_isa([&] {
      using Ask = typename Problem<E>::Ask;
      Problem<E> got(c);
      if (isa() != Isa::kRef) {  // which goes the same way with and without
        got.forward(serial, Ask::kOut);
        EXPECT_EQ(oracle.complaints(got, Oracle::Part::kForward), "") << "without weights";
      }
      got.forward(serial, Ask::kEverything);
      got.backward(serial);
      EXPECT_EQ(oracle.complaints(got), "");
    });
  });
}

TEST(Attention, EqualsTheReference) {
  for (Case c : plain_cases()) {
    for (Element element : kElements) {
      c.element = element;
      expect_equal_to_reference(c);
    }
  }
}

TEST(Attention, EqualsTheReferenceWithPrograms) {
  for (Case c : feature_cases()) {
    for (Element element : kElements) {
      c.element = element;
      expect_equal_to_reference(c);
    }
  }
}

// A sample of the tables, types in turn. The reference is slow, and few of its promises are at
// stake: it takes every eighth.
template <class Body>
void for_sample(Body body) {
  std::vector<Case> all = plain_cases();
  all.insert(all.end(), feature_cases().begin(), feature_cases().end());
  for (std::size_t i = 0; i < all.size(); i += 2) {
    Case c = all[i];
    c.element = kElements[i / 2 % 3];
    SCOPED_TRACE(name_of(c));
    with_element(c, [&](auto element) {
      for_each_isa([&] {
        if (isa() != Isa::kRef || i % 8 == 0) body(c, element);
      });
    });
  }
}

TEST(Attention, BitsDoNotDependOnThreads) {
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (int threads : {1, 2, 3, 5}) pools.push_back(std::make_unique<ThreadPool>(threads));
  for_sample([&]<class E>(const Case& c, E) {
    Problem<E> first(c);
    first.solve(*pools[0]);
    const std::string want = bits(first);
    for (const auto& pool : pools) {  // one thread again: from run to run
      Problem<E> again(c);
      again.solve(*pool);
      EXPECT_TRUE(want == bits(again)) << pool->threads() << " threads";
    }
  });
}

// The part of a dense result's values that belongs to the last of B elements.
std::vector<double> last_element(const Result& result, int64_t B) {
  return {result.values.end() - static_cast<int64_t>(result.values.size()) / B,
          result.values.end()};
}
bool shared_by_batch(const Result& result) {
  return result.name == "d_weight" || result.name == "d_sinks" || result.name.starts_with("d_tab");
}
// NaN equals NaN, and 0 is not -0.
bool same(const std::vector<double>& x, const std::vector<double>& y) {
  const size_t bytes = x.size() * sizeof(double);
  return x.size() == y.size() && (bytes == 0 || std::memcmp(x.data(), y.data(), bytes) == 0);
}

TEST(Attention, BitsDoNotDependOnBatchNeighbours) {
  SerialExecutor serial;
  for_sample([&]<class E>(const Case& c, E) {
    const int64_t B = c.shape.B;
    if (B < 2 || c.packed || c.layout == Layout::kRandom)
      return;  // random strides may share memory
    Problem<E> together(c), others(c);
    // Other numbers for all but the last element.
    for (const Tensor<E>* tensor : {&others.q, &others.k, &others.v, &others.d_out}) {
      for (int64_t b = 0; b < B - 1; ++b) {
        for (int64_t h = 0; h < tensor->size(1); ++h) {
          for (int64_t t = 0; t < tensor->size(2); ++t) {
            E* row = tensor->view().row(b, h, t);
            std::reverse(row, row + tensor->size(3));
          }
        }
      }
    }
    together.solve(serial);
    others.solve(serial);
    const std::vector<Result> want = together.results(), got = others.results();
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (shared_by_batch(want[i])) continue;
      EXPECT_TRUE(same(last_element(want[i], B), last_element(got[i], B))) << want[i].name;
    }
  });
}

template <class X>
void copy_last_element(const Tensor<X>& from, const Tensor<X>& to) {
  const std::vector<double> all = from.values();
  std::size_t i = all.size() - to.size();
  to.each([&](X& x) { x = from_double<X>(all[i++]); });
}

TEST(Attention, BitsDoNotDependOnTheBatchSize) {
  SerialExecutor serial;
  for_sample([&]<class E>(const Case& c, E) {
    const int64_t B = c.shape.B;
    // b is part of what programs and dropout depend on.
    if (B < 2 || c.packed || c.mechanism != Mechanism::kNone || c.dropout > 0) return;
    Problem<E> together(c);
    together.solve(serial);
    Case alone_case = c;
    alone_case.shape.B = 1;
    Problem<E> alone(alone_case);
    copy_last_element(together.q, alone.q);
    copy_last_element(together.k, alone.k);
    copy_last_element(together.v, alone.v);
    copy_last_element(together.d_out, alone.d_out);
    copy_last_element(together.d_lse, alone.d_lse);
    copy_last_element(together.weight, alone.weight);
    copy_last_element(together.sinks, alone.sinks);
    if (!together.lengths.empty()) alone.lengths = {together.lengths.back()};
    alone.solve(serial);
    const std::vector<Result> want = together.results(), got = alone.results();
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (shared_by_batch(want[i])) continue;
      EXPECT_TRUE(same(last_element(want[i], B), got[i].values)) << want[i].name;
    }
  });
}

// ---- Packed sequences.

// Sequence b of a packed problem as the last of b + 1 equal elements: b is part of what programs
// and dropout depend on.
template <class E>
struct Separate {
  using Real = RealOf<E>;
  AttentionInputs<E> inputs;
  Tensor<E> out, d_q, d_k, d_v;
  Tensor<Real> lse, d_lse, d_weight, d_sinks;

  Separate(const Problem<E>& packed, int64_t b) : inputs(packed.inputs()) {
    const int64_t t0 = packed.q_offsets[b], s0 = packed.k_offsets[b];
    Shape& shape = inputs.shape;
    shape.B = b + 1;
    shape.T = packed.q_offsets[b + 1] - t0;
    shape.S = packed.k_offsets[b + 1] - s0;
    inputs.packing = {};
    inputs.q.data += t0 * inputs.q.stride_t;
    inputs.k.data += s0 * inputs.k.stride_t;
    inputs.v.data += s0 * inputs.v.stride_t;
    out = Tensor<E>({shape.B, shape.H, shape.T, shape.Dv});
    d_q = Tensor<E>({shape.B, shape.H, shape.T, shape.D});
    d_k = Tensor<E>({shape.B, shape.Hkv, shape.S, shape.D});
    d_v = Tensor<E>({shape.B, shape.Hkv, shape.S, shape.Dv});
    lse = Tensor<Real>({shape.B, shape.H, 1, shape.T});
    d_lse = Tensor<Real>({shape.B, shape.H, 1, shape.T});
    d_weight = Tensor<Real>({1, 1, shape.H, shape.D});
    d_sinks = Tensor<Real>({1, 1, 1, shape.H});
    for (int64_t i = 0; i < shape.B; ++i) {
      for (int64_t h = 0; h < shape.H; ++h) {
        std::copy_n(packed.d_lse.data() + packed.row(b, h, 0), shape.T, d_lse.view().row(i, h, 0));
      }
    }
    SerialExecutor serial;
    attention_forward(inputs, {.out = out.view(), .lse = lse.data()}, serial);
    View<const E> d_out = packed.d_out.const_view();
    d_out.data += t0 * d_out.stride_t;
    attention_backward(inputs,
                       {.out = out.const_view(),
                        .lse = lse.data(),
                        .d_out = d_out,
                        .d_lse = d_lse.data(),
                        .d_q = d_q.view(),
                        .d_k = d_k.view(),
                        .d_v = d_v.view(),
                        .d_weight = inputs.weight == nullptr ? nullptr : d_weight.data(),
                        .d_sinks = inputs.sinks == nullptr ? nullptr : d_sinks.data()},
                       serial);
  }
};

// Rows of the packed tensor from `first` on against the last element of the other.
template <class X>
void expect_same_rows(const char* name, const Tensor<X>& packed, int64_t first,
                      const Tensor<X>& separate) {
  for (int64_t h = 0; h < separate.size(1); ++h) {
    for (int64_t t = 0; t < separate.size(2); ++t) {
      const X* want = separate.view().row(separate.size(0) - 1, h, t);
      const X* got = packed.view().row(0, h, first + t);
      EXPECT_EQ(std::memcmp(want, got, separate.size(3) * sizeof(X)), 0)
          << name << " head " << h << " row " << t;
    }
  }
}

TEST(Attention, PackedSequencesEqualSeparateCallsBitForBit) {
  SerialExecutor serial;
  for (Case c : feature_cases()) {
    if (!c.packed) continue;
    for (Element element : kElements) {
      c.element = element;
      SCOPED_TRACE(name_of(c));
      with_element(c, [&]<class E>(E) {
        for_each_isa([&] {
          Problem<E> packed(c);
          packed.forward(serial, Problem<E>::Ask::kOut);
          packed.backward(serial);
          for (int64_t b = 0; b < c.shape.B; ++b) {
            SCOPED_TRACE("sequence " + std::to_string(b));
            const Separate<E> separate(packed, b);
            expect_same_rows("out", packed.out, packed.q_offsets[b], separate.out);
            expect_same_rows("d_q", packed.d_q, packed.q_offsets[b], separate.d_q);
            expect_same_rows("d_k", packed.d_k, packed.k_offsets[b], separate.d_k);
            expect_same_rows("d_v", packed.d_v, packed.k_offsets[b], separate.d_v);
          }
        });
      });
    }
  }
}

// ---- Masks.

// Head (b, h), query t or key s of a problem's tensor.
template <class X>
X* query_row(const Problem<X>& p, const Tensor<X>& tensor, int64_t b, int64_t h, int64_t t) {
  return tensor.view().row(b, h, p.c.packed ? p.q_offsets[b] + t : t);
}
template <class X>
X* key_row(const Problem<X>& p, const Tensor<X>& tensor, int64_t b, int64_t h, int64_t s) {
  return tensor.view().row(b, h / p.c.shape.group(), p.c.packed ? p.k_offsets[b] + s : s);
}

TEST(Attention, RowWithoutKeysIsZero) {
  SerialExecutor serial;
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {4, 60}) {
      for (bool sinks : {false, true}) {
        for (Element element : kElements) {
          // Bottom right with 3 keys: all but the last three rows see none.
          const Case c = {.shape = {.B = 1, .H = 2, .Hkv = 1, .T = T, .S = 3, .D = 16, .Dv = 8},
                          .score = score,
                          .causal = Causal::kBottomRight,
                          .element = element,
                          .sinks = sinks};
          SCOPED_TRACE(name_of(c));
          with_element(c, [&]<class E>(E) {
            for_each_isa([&] {
              Problem<E> problem(c);
              problem.solve(serial);
              for (int64_t h = 0; h < 2; ++h) {
                for (int64_t t = 0; t < T - 3; ++t) {
                  const int64_t row = h * T + t;
                  // A sink is a key, if one without a value.
                  const double lse = sinks ? to_double(problem.sinks.data()[h]) : -kInfinity;
                  EXPECT_FLOAT_EQ(problem.lse.data()[row], static_cast<float>(lse));
                  EXPECT_NEAR(problem.entropy.data()[row], 0, 1e-6);
                  EXPECT_EQ(problem.max.data()[row], -kInfinity);
                  EXPECT_EQ(problem.top_keys.data()[row * problem.kTop], -1);
                  EXPECT_EQ(problem.top_weights.data()[row * problem.kTop], 0);
                  for (int64_t d = 0; d < 8; ++d)
                    EXPECT_EQ(to_double(problem.out.at(0, h, t, d)), 0);
                  for (int64_t d = 0; d < 16; ++d) {
                    EXPECT_EQ(to_double(problem.d_q.at(0, h, t, d)), 0);
                  }
                }
              }
            });
          });
        }
      }
    }
  }
}

// Poisons keys and values that no query sees, and queries that see no key.
template <class E>
bool poison_unseen(const Problem<double>& want, const Problem<E>& problem) {
  const auto& [B, H, Hkv, T, S, D, Dv] = problem.c.shape;
  bool any = false;
  const auto poison = [&](E* row, int64_t n, double x) {
    for (int64_t d = 0; d < n; ++d) row[d] = from_double<E>(x);
    any = true;
  };
  for (int64_t b = 0; b < B; ++b) {
    const Lengths own = lengths_of(problem.inputs(), b);
    const auto weight = [&](int64_t h, int64_t t, int64_t s) {
      return want.weights.at(b, h, problem.c.packed ? problem.q_offsets[b] + t : t, s);
    };
    for (int64_t g = 0; g < Hkv; ++g) {
      for (int64_t s = 0; s < (problem.c.packed ? own.S : S); ++s) {
        bool seen = false;
        for (int64_t h = g * H / Hkv; h < (g + 1) * H / Hkv; ++h) {
          for (int64_t t = 0; t < own.T; ++t) seen = seen || weight(h, t, s) != 0;
        }
        if (seen) continue;
        poison(key_row(problem, problem.k, b, g * H / Hkv, s), D, kNaN);
        poison(key_row(problem, problem.v, b, g * H / Hkv, s), Dv, s % 2 == 0 ? kInfinity : kNaN);
      }
    }
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = 0; t < own.T; ++t) {
        bool sees = false;
        for (int64_t s = 0; s < S; ++s) sees = sees || weight(h, t, s) != 0;
        if (sees) continue;
        poison(query_row(problem, problem.q, b, h, t), D, kNaN);
        if (problem.c.sinks) continue;  // the sink's gradient reads d_out and d_lse
        poison(query_row(problem, problem.d_out, b, h, t), Dv, kNaN);
        problem.d_lse.data()[problem.row(b, h, t)] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
  return any;
}

TEST(Attention, UnseenKeysAndBlindQueriesLeakNothing) {
  SerialExecutor serial;
  int poisoned_cases = 0;
  for_sample([&]<class E>(const Case& c, E) {
    // -inf out of a table is a score, not a mask; random strides may share memory.
    if (c.mechanism == Mechanism::kFloatMask || c.layout == Layout::kRandom) return;
    Case everything = c;
    everything.top_k = 0;  // whether a key is among the top is read off its score
    Problem<double> want(everything);
    want.forward(serial);
    Problem<E> clean(c), poisoned(c);
    if (!poison_unseen(want, poisoned)) return;
    ++poisoned_cases;
    clean.solve(serial);
    poisoned.solve(serial);
    EXPECT_TRUE(bits(clean) == bits(poisoned));
  });
  EXPECT_GT(poisoned_cases, 10);
}

template <class E>
bool all_finite(const E* row, int64_t n) {
  return std::all_of(row, row + n, [](E x) { return std::isfinite(to_double(x)); });
}

// Bodies of causal T x T problems, short and tiled, in every type and kernel set.
template <class Body>
void for_causal(Body body) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {5, 9, 49, 130}) {
      for (Element element : kElements) {
        const Case c = {.shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = T, .D = 20, .Dv = 20},
                        .score = score,
                        .causal = Causal::kTopLeft,
                        .element = element};
        SCOPED_TRACE(name_of(c));
        with_element(c, [&](auto e) { for_each_isa([&] { body(c, e); }); });
      }
    }
  }
}

// One bad key: the queries that see it turn NaN, those that don't keep their bits.
TEST(Attention, NanReachesExactlyTheQueriesThatSeeIt) {
  SerialExecutor serial;
  for_causal([&]<class E>(const Case& c, E) {
    for (int poison = 0; poison < 3; ++poison) {  // Inf in a key may be a score of -inf
      const bool in_value = poison > 0;
      const int64_t bad = c.shape.T / 2;
      Problem<E> clean(c), poisoned(c);
      (in_value ? poisoned.v : poisoned.k).at(0, 0, bad, 7) =
          from_double<E>(poison == 2 ? kInfinity : kNaN);
      clean.solve(serial);
      poisoned.solve(serial);
      for (int64_t t = 0; t < c.shape.T; ++t) {
        const E *out = poisoned.out.view().row(0, 0, t), *d_q = poisoned.d_q.view().row(0, 0, t);
        if (t >= bad) {
          EXPECT_FALSE(all_finite(out, 20) && std::isfinite(poisoned.lse.data()[t])) << t;
          EXPECT_FALSE(all_finite(d_q, 20)) << t;
        } else {
          const std::size_t bytes = 20 * sizeof(E);
          EXPECT_EQ(std::memcmp(out, clean.out.view().row(0, 0, t), bytes), 0) << t;
          EXPECT_EQ(std::memcmp(d_q, clean.d_q.view().row(0, 0, t), bytes), 0) << t;
        }
      }
    }
  });
}

// One bad query leaves the gradients of the keys it does not see alone.
TEST(Attention, BadQueryTouchesOnlyKeysItSees) {
  SerialExecutor serial;
  for_causal([&]<class E>(const Case& c, E) {
    const int64_t bad = c.shape.T / 2;
    Problem<E> clean(c), poisoned(c);
    poisoned.q.at(0, 0, bad, 3) = from_double<E>(kNaN);
    poisoned.d_out.at(0, 0, bad, 3) = from_double<E>(kNaN);
    clean.solve(serial);
    poisoned.solve(serial);
    for (int64_t s = 0; s < c.shape.T; ++s) {
      const E *d_k = poisoned.d_k.view().row(0, 0, s), *d_v = poisoned.d_v.view().row(0, 0, s);
      if (s <= bad) {
        EXPECT_FALSE(all_finite(d_k, 20) || all_finite(d_v, 20)) << s;
      } else {
        const std::size_t bytes = 20 * sizeof(E);
        EXPECT_EQ(std::memcmp(d_k, clean.d_k.view().row(0, 0, s), bytes), 0) << s;
        EXPECT_EQ(std::memcmp(d_v, clean.d_v.view().row(0, 0, s), bytes), 0) << s;
      }
    }
  });
}

// ---- Scores at the edge.

TEST(Attention, HugeLogitsStayFinite) {
  SerialExecutor serial;
  for (int64_t T : {3, 30}) {
    const Case c = {.shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 40, .D = 16, .Dv = 16},
                    .scale = 1e6};
    for_each_isa([&] {
      Problem<float> problem(c);
      problem.solve(serial);
      for (const Result& result : problem.results()) {
        for (double x : result.values) EXPECT_TRUE(std::isfinite(x)) << result.name;
      }
    });
  }
}

TEST(Attention, RowOfMinusInfinityScoresCountsAsOneWithoutKeys) {
  SerialExecutor serial;
  for (int64_t T : {2, 20}) {
    for (Element element : kElements) {
      const Case c = {.shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 20, .D = 4, .Dv = 4},
                      .element = element};
      with_element(c, [&]<class E>(E) {
        for_each_isa([&] {
          Problem<E> problem(c);
          problem.q.fill(1);
          for (int64_t s = 0; s < 20; ++s) problem.k.at(0, 0, s, 0) = from_double<E>(-kInfinity);
          problem.solve(serial);
          for (const Result& result : problem.results()) {
            const bool infinite = result.name == "lse" || result.name == "max";
            for (double x : result.values) EXPECT_EQ(x, infinite ? -kInfinity : 0) << result.name;
          }
        });
      });
    }
  }
}

// Four equal keys, one better and the rest worse: ties at the threshold all stay.
TEST(Attention, TopKKeepsTies) {
  SerialExecutor serial;
  for (int64_t T : {2, 50}) {
    for (Element element : kElements) {
      const Case c = {.shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 40, .D = 16, .Dv = 4},
                      .scale = 1,
                      .element = element,
                      .top_k = 3};
      with_element(c, [&]<class E>(E) {
        for_each_isa([&] {
          Problem<E> problem(c);
          problem.q.fill(0.5);
          const auto score = [](int64_t s) { return s == 33 ? 2 : s % 10 == 1 ? 1 : -(s % 3); };
          for (int64_t s = 0; s < 40; ++s) {
            E* row = problem.k.view().row(0, 0, s);
            for (int64_t d = 0; d < 16; ++d) row[d] = from_double<E>(score(s) / 8.0);
          }
          problem.forward(serial);
          const double sum = std::exp(1) + 4;
          for (int64_t t = 0; t < T; ++t) {
            for (int64_t s = 0; s < 40; ++s) {
              const double want = score(s) == 2 ? std::exp(1) / sum : score(s) == 1 ? 1 / sum : 0;
              EXPECT_NEAR(problem.weights.at(0, 0, t, s), want, 1e-6) << t << " " << s;
            }
          }
        });
      });
    }
  }
}

// ---- Memory.

// Broadcast keys: one key head and one batch element seen through zero strides.
TEST(Attention, ZeroStridesRead) {
  SerialExecutor serial;
  const Case c = {.shape = {.B = 3, .H = 2, .Hkv = 2, .T = 10, .S = 12, .D = 8, .Dv = 8}};
  for_each_isa([&] {
    Problem<float> whole(c), broadcast(c);
    for (const Tensor<float>* tensor : {&whole.k, &whole.v}) {
      for (int64_t b = 0; b < 3; ++b)
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t s = 0; s < 12; ++s)
            for (int64_t d = 0; d < 8; ++d) tensor->at(b, h, s, d) = tensor->at(0, 0, s, d);
    }
    whole.forward(serial, Problem<float>::Ask::kOut);
    AttentionInputs<float> inputs = broadcast.inputs();
    inputs.k.stride_b = inputs.k.stride_h = inputs.v.stride_b = inputs.v.stride_h = 0;
    attention_forward(inputs, {broadcast.out.view(), broadcast.lse.data(), {}}, serial);
    EXPECT_EQ(whole.out.values(), broadcast.out.values());
  });
}

TEST(Attention, StatisticsComeWithoutAnOutput) {
  SerialExecutor serial;
  for (int64_t T : {3, 60}) {
    const Case c = {.shape = {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 40, .D = 16, .Dv = 16},
                    .causal = Causal::kBottomRight};
    for_each_isa([&] {
      Problem<float> whole(c), part(c);
      whole.forward(serial);
      AttentionOutputs<float> outputs = {.lse = part.lse.data()};
      outputs.statistics.entropy = part.entropy.data();
      attention_forward(part.inputs(), outputs, serial);
      for (int64_t row = 0; row < whole.rows(); ++row) {
        EXPECT_NEAR(part.entropy.data()[row], whole.entropy.data()[row], 1e-5);
        if (std::isfinite(whole.lse.data()[row])) {
          EXPECT_NEAR(part.lse.data()[row], whole.lse.data()[row], 1e-5);
        }
      }
      part.out.each([](float x) { EXPECT_TRUE(std::isnan(x)); });
    });
  }
}

// The case that runs beside guard pages, for whoever finds the process dead.
char running[256];
void report_crash(int) {
  constexpr char kText[] = "read or written out of bounds: ";
  [[maybe_unused]] auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
  written = write(STDERR_FILENO, running, std::strlen(running));
  written = write(STDERR_FILENO, "\n", 1);
  _exit(1);
}

// Tails of every length in every size, each buffer against an inaccessible page on either side.
TEST(Attention, StaysInBounds) {
  SerialExecutor serial;
  constexpr Mechanism kPrograms[] = {Mechanism::kNone, Mechanism::kRelative, Mechanism::kNone,
                                     Mechanism::kMask, Mechanism::kAlibi,    Mechanism::kDocuments};
  const auto segv = std::signal(SIGSEGV, report_crash), bus = std::signal(SIGBUS, report_crash);
  for (int64_t i = 1; i <= 70; ++i) {
    // 71 is a prime: each size takes every value from 1 to 70, in another order.
    const Shape shape = {.B = 1,
                         .H = 2,
                         .Hkv = 1 + i % 2,
                         .T = i,
                         .S = i * 29 % 71,
                         .D = i * 11 % 71,
                         .Dv = i * 47 % 71};
    for (Layout layout : {Layout::kEndsAtPage, Layout::kBeginsAtPage}) {
      for (Element element : kElements) {
        const bool additive = (i + static_cast<int>(element)) % 3 == 0;
        const Case c = {.shape = shape,
                        .score = additive ? Score::kAdditive : Score::kDot,
                        .causal = i % 2 == 0 ? Causal::kBottomRight : Causal::kNone,
                        .layout = layout,
                        .element = element,
                        .mechanism = kPrograms[i % 6],
                        .sinks = i % 4 == 0,
                        .top_k = i % 7 == 0 ? 5 : 0,
                        .dropout = i % 5 == 0 ? 0.2 : 0,
                        .packed = i % 9 == 0};
        std::strncpy(running, name_of(c).c_str(), sizeof running - 1);
        with_element(c, [&]<class E>(E) {
          for_each_isa([&] {
            Problem<E> problem(c);
            problem.solve(serial);
            EXPECT_TRUE(all_finite(problem.out.data(), problem.out.size())) << running;
          });
        });
      }
    }
  }
  std::signal(SIGSEGV, segv);
  std::signal(SIGBUS, bus);
}

}  // namespace
}  // namespace heed::testing
