// Forward and backward of every kernel set against the reference in double, and the promises that
// hold beside the numbers: masks, NaN, bounds, and bits that depend on nothing but the problem.
#include "heed/core/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "heed/core/isa.h"
#include "tests/core/each_isa.h"
#include "tests/core/problem.h"

namespace heed::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

double largest(const std::vector<double>& values) {
  double most = 0;
  for (double x : values) {
    if (std::isfinite(x)) most = std::max(most, std::abs(x));
  }
  return most;
}

// How far `got` may be from `want`. Rounding of a sum of n products is about eps * sqrt(n) of its
// largest terms; n is at most 900 here, and a few such sums and exponentials follow on one another.
// 3e-6 of the largest element is 25 eps: a wrong index or a lost term is off by 1e-2 at least.
// d_weight sums over B, T and S: up to 17,000 terms, sqrt(17000 / 900) = 4.3 times the noise.
double tolerance(const char* name, const std::vector<double>& want) {
  const double relative = std::strcmp(name, "d_weight") == 0 ? 13e-6 : 3e-6;
  return relative * std::max(1.0, largest(want));
}

void expect_close(const char* name, const Tensor<float>& got, const Tensor<double>& want) {
  const std::vector<float> g = got.values();
  const std::vector<double> w = want.values();
  ASSERT_EQ(g.size(), w.size());
  const double allowed = tolerance(name, w);
  double worst = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    if (std::isinf(w[i])) {
      EXPECT_EQ(g[i], w[i]) << name << " element " << i;
      continue;
    }
    const double error = std::abs(g[i] - w[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  EXPECT_LE(worst, allowed) << name;
}

TEST(Attention, EqualsTheDoubleReferenceAndStaysInBounds) {
  SerialExecutor serial;
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(name_of(c));
    Problem<double> want(c);
    want.solve(serial);
    for_each_isa([&] {
      Problem<float> got(c);
      got.solve(serial);
      const auto wanted = want.results();
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto [name, tensor] = got.results()[i];
        expect_close(name, *tensor, *wanted[i].second);
        EXPECT_TRUE(tensor->guards_intact()) << name << " written out of bounds";
      }
    });
  }
}

// The bytes of every result, one after another.
std::string bits(const Problem<float>& problem) {
  std::string all;
  for (const auto& [name, tensor] : problem.results()) {
    const std::vector<float> values = tensor->values();
    all.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  return all;
}

TEST(Attention, BitsDoNotDependOnThreads) {
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (int threads : {1, 2, 3, 5}) pools.push_back(std::make_unique<ThreadPool>(threads));
  for (const Case& c : all_cases()) {
    SCOPED_TRACE(name_of(c));
    for_each_isa([&] {
      Problem<float> first(c);
      first.solve(*pools[0]);
      const std::string want = bits(first);
      for (const auto& pool : pools) {  // one thread again: from run to run
        Problem<float> again(c);
        again.solve(*pool);
        EXPECT_EQ(want, bits(again)) << pool->threads() << " threads";
      }
    });
  }
}

TEST(Attention, BitsDoNotDependOnBatchNeighbours) {
  SerialExecutor serial;
  for (const Case& c : all_cases()) {
    if (c.shape.B < 2) continue;
    SCOPED_TRACE(name_of(c));
    for_each_isa([&] {
      Problem<float> together(c);
      together.solve(serial);
      Case alone_case = c;
      alone_case.shape.B = 1;
      const int64_t b = c.shape.B - 1;
      Problem<float> alone(alone_case);
      auto copy = [&](const Tensor<float>& from, const Tensor<float>& to) {
        const std::vector<float> all = from.values();
        size_t i = all.size() / c.shape.B * b;
        to.each([&](float& x) { x = all[i++]; });
      };
      copy(together.q, alone.q);
      copy(together.k, alone.k);
      copy(together.v, alone.v);
      copy(together.d_out, alone.d_out);
      copy(together.d_lse, alone.d_lse);
      std::copy_n(together.weight.data(), c.shape.H * c.shape.D, alone.weight.data());
      if (!together.lengths.empty()) alone.lengths = {together.lengths[b]};
      alone.solve(serial);
      for (size_t i = 0; i < 6; ++i) {  // d_weight is a sum over the batch
        const std::vector<float> all = together.results()[i].second->values();
        const std::vector<float> one = alone.results()[i].second->values();
        const auto bytes = [](const float* begin, size_t n) {
          return std::string(reinterpret_cast<const char*>(begin), n * sizeof(float));
        };
        EXPECT_EQ(bytes(all.data() + all.size() - one.size(), one.size()),
                  bytes(one.data(), one.size()))
            << together.results()[i].first;
      }
    });
  }
}

TEST(Attention, RowWithoutKeysIsZero) {
  SerialExecutor serial;
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {4, 60}) {
      // Bottom right with 3 keys: all but the last three rows see none.
      const Case c = {{.B = 1, .H = 2, .Hkv = 1, .T = T, .S = 3, .D = 16, .Dv = 8},
                      score,
                      Causal::kBottomRight};
      for_each_isa([&] {
        Problem<float> problem(c);
        problem.solve(serial);
        for (int64_t h = 0; h < 2; ++h) {
          for (int64_t t = 0; t < T - 3; ++t) {
            EXPECT_EQ(problem.lse.data()[h * T + t], -INFINITY);
            for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(problem.out.at(0, h, t, d), 0.0f);
            for (int64_t d = 0; d < 16; ++d) EXPECT_EQ(problem.d_q.at(0, h, t, d), 0.0f);
          }
        }
      });
    }
  }
}

// Keys that no query sees: past the length, or past the last query's diagonal.
TEST(Attention, UnseenKeysLeakNothing) {
  SerialExecutor serial;
  for (const Case& c : all_cases()) {
    if (c.lengths == Lengths::kNone && c.causal != Causal::kTopLeft) continue;
    SCOPED_TRACE(name_of(c));
    for_each_isa([&] {
      Problem<float> clean(c), poisoned(c);
      for (int64_t b = 0; b < c.shape.B; ++b) {
        const int64_t length = clean.lengths.empty() ? c.shape.S : clean.lengths[b];
        const int64_t seen = c.causal == Causal::kTopLeft ? std::min(length, c.shape.T) : length;
        for (int64_t h = 0; h < c.shape.Hkv; ++h) {
          for (int64_t s = seen; s < c.shape.S; ++s) {
            for (int64_t d = 0; d < c.shape.D; ++d) poisoned.k.at(b, h, s, d) = kNaN;
            for (int64_t d = 0; d < c.shape.Dv; ++d) poisoned.v.at(b, h, s, d) = INFINITY;
          }
        }
      }
      clean.solve(serial);
      poisoned.solve(serial);
      EXPECT_EQ(bits(clean), bits(poisoned));
    });
  }
}

bool all_finite(const float* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(row[i])) return false;
  }
  return true;
}

// One bad key: the queries that see it turn NaN, those that don't keep their bits.
TEST(Attention, NanReachesExactlyTheQueriesThatSeeIt) {
  SerialExecutor serial;
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {5, 9, 49, 130}) {
      for (bool in_value : {false, true}) {
        for (float poison : {kNaN, static_cast<float>(INFINITY)}) {
          if (!in_value && !std::isnan(poison)) continue;  // Inf in a key may be a score of -inf
          const Case c = {{.B = 1, .H = 1, .Hkv = 1, .T = T, .S = T, .D = 20, .Dv = 20},
                          score,
                          Causal::kTopLeft};
          SCOPED_TRACE(name_of(c));
          const int64_t bad = T / 2;
          for_each_isa([&] {
            Problem<float> clean(c), poisoned(c);
            (in_value ? poisoned.v : poisoned.k).at(0, 0, bad, 7) = poison;
            clean.solve(serial);
            poisoned.solve(serial);
            for (int64_t t = 0; t < T; ++t) {
              const float* out = poisoned.out.view().row(0, 0, t);
              const float* d_q = poisoned.d_q.view().row(0, 0, t);
              if (t >= bad) {
                EXPECT_FALSE(all_finite(out, 20) && std::isfinite(poisoned.lse.data()[t])) << t;
                EXPECT_FALSE(all_finite(d_q, 20)) << t;
              } else {
                EXPECT_EQ(std::memcmp(out, clean.out.view().row(0, 0, t), 80), 0) << t;
                EXPECT_EQ(std::memcmp(d_q, clean.d_q.view().row(0, 0, t), 80), 0) << t;
              }
            }
          });
        }
      }
    }
  }
}

// One bad query leaves the gradients of the keys it does not see alone.
TEST(Attention, BadQueryTouchesOnlyKeysItSees) {
  SerialExecutor serial;
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {5, 49, 130}) {
      const Case c = {
          {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = T, .D = 20, .Dv = 20}, score, Causal::kTopLeft};
      SCOPED_TRACE(name_of(c));
      const int64_t bad = T / 2;
      for_each_isa([&] {
        Problem<float> clean(c), poisoned(c);
        poisoned.q.at(0, 0, bad, 3) = kNaN;
        poisoned.d_out.at(0, 0, bad, 3) = kNaN;
        clean.solve(serial);
        poisoned.solve(serial);
        for (int64_t s = 0; s < T; ++s) {
          const float* d_k = poisoned.d_k.view().row(0, 0, s);
          const float* d_v = poisoned.d_v.view().row(0, 0, s);
          if (s <= bad) {
            EXPECT_FALSE(all_finite(d_k, 20) || all_finite(d_v, 20)) << s;
          } else {
            EXPECT_EQ(std::memcmp(d_k, clean.d_k.view().row(0, 0, s), 80), 0) << s;
            EXPECT_EQ(std::memcmp(d_v, clean.d_v.view().row(0, 0, s), 80), 0) << s;
          }
        }
      });
    }
  }
}

TEST(Attention, HugeLogitsStayFinite) {
  SerialExecutor serial;
  for (int64_t T : {3, 30}) {
    const Case c = {{.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 40, .D = 16, .Dv = 16},
                    Score::kDot,
                    Causal::kNone,
                    Lengths::kNone,
                    Layout::kDense,
                    1e6};
    for_each_isa([&] {
      Problem<float> problem(c);
      problem.solve(serial);
      for (const auto& [name, tensor] : problem.results()) {
        tensor->each([&, n = name](float x) { EXPECT_TRUE(std::isfinite(x)) << n; });
      }
    });
  }
}

TEST(Attention, RowOfMinusInfinityScoresCountsAsOneWithoutKeys) {
  SerialExecutor serial;
  for (int64_t T : {2, 20}) {
    const Case c = {{.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 20, .D = 4, .Dv = 4}};
    for_each_isa([&] {
      Problem<float> problem(c);
      problem.q.fill(1.0f);
      for (int64_t s = 0; s < 20; ++s) problem.k.at(0, 0, s, 0) = -INFINITY;
      problem.solve(serial);
      problem.lse.each([](float x) { EXPECT_EQ(x, -INFINITY); });
      for (const auto& [name, tensor] : problem.results()) {
        if (tensor != &problem.lse)
          tensor->each([&, n = name](float x) { EXPECT_EQ(x, 0.0f) << n; });
      }
    });
  }
}

// Broadcast keys: one key head and one batch element seen through zero strides.
TEST(Attention, ZeroStridesRead) {
  SerialExecutor serial;
  const Case c = {{.B = 3, .H = 2, .Hkv = 2, .T = 10, .S = 12, .D = 8, .Dv = 8}};
  for_each_isa([&] {
    Problem<float> whole(c), broadcast(c);
    for (const Tensor<float>* tensor : {&whole.k, &whole.v}) {
      for (int64_t b = 0; b < 3; ++b)
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t s = 0; s < 12; ++s)
            for (int64_t d = 0; d < 8; ++d) tensor->at(b, h, s, d) = tensor->at(0, 0, s, d);
    }
    whole.forward(serial);
    AttentionInputs<float> inputs = broadcast.inputs();
    inputs.k.stride_b = inputs.k.stride_h = inputs.v.stride_b = inputs.v.stride_h = 0;
    attention_forward(inputs, {broadcast.out.view(), broadcast.lse.data(), {}}, serial);
    EXPECT_EQ(whole.out.values(), broadcast.out.values());
  });
}

// ---- The reference itself, against finite differences of a scalar of everything it puts out.

double objective(Problem<double>& p) {
  SerialExecutor serial;
  p.forward(serial, /*with_weights=*/false);
  double sum = 0;
  std::vector<double> out = p.out.values(), d_out = p.d_out.values();
  for (size_t i = 0; i < out.size(); ++i) sum += out[i] * d_out[i];
  for (int64_t i = 0; i < p.lse.width(); ++i) {
    if (std::isfinite(p.lse.data()[i])) sum += p.lse.data()[i] * p.d_lse.data()[i];
  }
  return sum;
}

TEST(Reference, GradientsEqualFiniteDifferences) {
  SerialExecutor serial;
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (Causal causal : {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight}) {
      for (Lengths lengths : {Lengths::kNone, Lengths::kMixed}) {
        const Case c = {
            {.B = 2, .H = 4, .Hkv = 2, .T = 3, .S = 5, .D = 4, .Dv = 3}, score, causal, lengths};
        SCOPED_TRACE(name_of(c));
        Problem<double> p(c);
        p.solve(serial);
        auto check = [&](const char* name, const Tensor<double>& x,
                         const Tensor<double>& gradient) {
          const std::vector<double> want = gradient.values();
          size_t i = 0;
          x.each([&](double& element) {
            constexpr double kStep = 1e-5;  // error of the difference: about step^2
            const double before = element;
            element = before + kStep;
            const double above = objective(p);
            element = before - kStep;
            const double below = objective(p);
            element = before;
            EXPECT_NEAR((above - below) / (2 * kStep), want[i++], 1e-7) << name;
          });
        };
        check("d_q", p.q, p.d_q);
        check("d_k", p.k, p.d_k);
        check("d_v", p.v, p.d_v);
        if (score == Score::kAdditive) check("d_weight", p.weight, p.d_weight);
      }
    }
  }
}

// The masks as their definition reads, apart from the function that all the engine shares.
TEST(Reference, WeightsAreASoftmaxOverTheKeysSeen) {
  SerialExecutor serial;
  for (const auto& [T, S] : {std::pair<int64_t, int64_t>{4, 6}, {6, 4}, {5, 5}}) {
    for (Causal causal : {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight}) {
      for (Lengths lengths : {Lengths::kNone, Lengths::kMixed}) {
        const Case c = {{.B = 3, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 3, .Dv = 2},
                        Score::kAdditive,
                        causal,
                        lengths};
        SCOPED_TRACE(name_of(c));
        Problem<double> p(c);
        p.forward(serial);
        for (int64_t b = 0; b < 3; ++b) {
          const int64_t length = p.lengths.empty() ? S : p.lengths[b];
          for (int64_t t = 0; t < T; ++t) {
            double sum = 0;
            int64_t seen = 0;
            for (int64_t s = 0; s < S; ++s) {
              const bool sees = s < length && (causal != Causal::kTopLeft || s <= t) &&
                                (causal != Causal::kBottomRight || s <= t + length - T);
              seen += sees;
              EXPECT_EQ(p.weights.at(b, 1, t, s) > 0, sees) << t << " " << s;
              sum += p.weights.at(b, 1, t, s);
            }
            EXPECT_NEAR(sum, seen > 0 ? 1 : 0, 1e-14);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace heed::testing
