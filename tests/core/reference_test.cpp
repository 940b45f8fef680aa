// The oracle itself: its gradients against finite differences, its masks, weights and statistics
// against their definitions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "heed/core/ref/attention.h"
#include "tests/core/problem.h"

namespace heed::testing {
namespace {

// A scalar of everything that gradients are given for.
double objective(Problem<double>& p) {
  SerialExecutor serial;
  p.forward(serial, Problem<double>::Ask::kOut);
  double sum = 0;
  const std::vector<double> out = p.out.values(), d_out = p.d_out.values();
  for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * d_out[i];
  for (int64_t i = 0; i < p.rows(); ++i) {
    if (std::isfinite(p.lse.data()[i])) sum += p.lse.data()[i] * p.d_lse.data()[i];
  }
  return sum;
}

void check_element(Problem<double>& p, const char* name, double& element, double want) {
  constexpr double kStep = 1e-5;  // error of the difference: about step^2
  const double before = element;
  const auto moved = [&](double step) {
    element = before + step;
    if (p.has_program()) p.bind();
    return objective(p);
  };
  const double difference = moved(kStep) - moved(-kStep);
  moved(0);
  EXPECT_NEAR(difference / (2 * kStep), want, 1e-7 * std::max(1.0, std::abs(want))) << name;
}

void check(Problem<double>& p, const char* name, const Tensor<double>& x,
           const Tensor<double>& gradient) {
  const std::vector<double> want = gradient.values();
  std::size_t i = 0;
  x.each([&](double& element) { check_element(p, name, element, want[i++]); });
}

void expect_gradients(const Case& c) {
  SerialExecutor serial;
  SCOPED_TRACE(name_of(c));
  Problem<double> p(c);
  SCOPED_TRACE(p.has_program() ? p.score_program().program->str() : "");
  p.solve(serial);
  check(p, "d_q", p.q, p.d_q);
  check(p, "d_k", p.k, p.d_k);
  check(p, "d_v", p.v, p.d_v);
  if (c.score == Score::kAdditive) check(p, "d_weight", p.weight, p.d_weight);
  if (c.sinks) check(p, "d_sinks", p.sinks, p.d_sinks);
  for (std::size_t i = 0; i < p.d_tables.size(); ++i) {
    // Dense, and made by Problem: ours to write to.
    auto* table = static_cast<double*>(const_cast<void*>(p.score_program().tables[i].data));
    for (int64_t j = 0; j < p.d_tables[i].size(); ++j) {
      if (std::isinf(table[j])) continue;
      check_element(p, "d_table", table[j], p.d_tables[i].data()[j]);
    }
  }
}

constexpr Shape kSmall = {.B = 2, .H = 4, .Hkv = 2, .T = 3, .S = 5, .D = 4, .Dv = 3};

TEST(Reference, GradientsEqualFiniteDifferences) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (Causal causal : {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight}) {
      for (KeyLengths lengths : {KeyLengths::kNone, KeyLengths::kMixed}) {
        expect_gradients({.shape = kSmall, .score = score, .causal = causal, .lengths = lengths});
      }
    }
  }
}

TEST(Reference, GradientsOfFeaturesEqualFiniteDifferences) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    const Case plain = {.shape = kSmall, .score = score, .causal = Causal::kBottomRight};
    Case window = plain, sinks = plain, top_k = plain, dropout = plain, packed = plain;
    window.window = {.left = 1, .right = 2};
    sinks.sinks = true;
    top_k.top_k = 2;
    dropout.dropout = 0.4;
    packed.packed = packed.sinks = true;
    packed.dropout = 0.2;
    packed.shape.B = 4;
    packed.mechanism = Mechanism::kAlibi;
    for (const Case& c : {window, sinks, top_k, dropout, packed}) expect_gradients(c);
  }
}

TEST(Reference, GradientsOfProgramsEqualFiniteDifferences) {
  unsigned turn = 0;
  for (Mechanism mechanism : kNamed) {
    Case c = {.shape = {.B = 2, .H = 2, .Hkv = 1, .T = 4, .S = 5, .D = 3, .Dv = 2},
              .score = turn % 3 == 2 ? Score::kAdditive : Score::kDot,
              .mechanism = mechanism,
              .sinks = turn % 2 == 1};
    ++turn;
    expect_gradients(c);
  }
  expect_gradients({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 4, .S = 5, .D = 3, .Dv = 2},
                    .score = Score::kNone,
                    .mechanism = Mechanism::kLocation});
}

TEST(Reference, GradientsOfRandomProgramsEqualFiniteDifferences) {
  for (unsigned seed = 2; seed < 42; ++seed) {
    expect_gradients({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 3, .S = 4, .D = 2, .Dv = 2},
                      .mechanism = Mechanism::kRandom,
                      .seed = seed});
  }
}

// The masks as their definition reads, apart from the functions that all the engine shares.
bool sees(const Case& c, int64_t length, int64_t t, int64_t s) {
  const int64_t corner = c.causal == Causal::kBottomRight ? length - c.shape.T : 0;
  const Window& window = c.window;
  return s < length && (c.causal == Causal::kNone || s <= t + corner) &&
         (window.left < 0 || s >= t + corner - window.left) &&
         (window.right < 0 || s <= t + corner + window.right);
}

void expect_softmax(const Case& c) {
  SerialExecutor serial;
  SCOPED_TRACE(name_of(c));
  Problem<double> p(c);
  p.forward(serial);
  for (int64_t b = 0; b < c.shape.B; ++b) {
    const int64_t length = p.lengths.empty() ? c.shape.S : p.lengths[b];
    for (int64_t t = 0; t < c.shape.T; ++t) {
      double sum = 0;
      int64_t seen = 0;
      for (int64_t s = 0; s < c.shape.S; ++s) {
        EXPECT_EQ(p.weights.at(b, 1, t, s) > 0, sees(c, length, t, s)) << t << " " << s;
        seen += sees(c, length, t, s);
        sum += p.weights.at(b, 1, t, s);
      }
      EXPECT_NEAR(sum, seen > 0 ? 1 : 0, 1e-14);
    }
  }
}

TEST(Reference, WeightsAreASoftmaxOverTheKeysSeen) {
  for (const auto& [T, S] : {std::pair<int64_t, int64_t>{4, 6}, {6, 4}, {5, 5}}) {
    for (Causal causal : {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight}) {
      for (KeyLengths lengths : {KeyLengths::kNone, KeyLengths::kMixed}) {
        for (const Window& window :
             {Window{}, Window{.left = 1}, Window{.left = 0, .right = 2}, Window{.right = 1}}) {
          expect_softmax({.shape = {.B = 3, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 3, .Dv = 2},
                          .score = Score::kAdditive,
                          .causal = causal,
                          .lengths = lengths,
                          .window = window});
        }
      }
    }
  }
}

TEST(Reference, StatisticsAreTheWeights) {
  SerialExecutor serial;
  for (bool sinks : {false, true}) {
    Problem<double> p({.shape = {.B = 2, .H = 2, .Hkv = 1, .T = 6, .S = 5, .D = 3, .Dv = 2},
                       .causal = Causal::kTopLeft,
                       .sinks = sinks});
    p.forward(serial);
    for (int64_t row = 0; row < p.rows(); ++row) {
      const double* weights = p.weights.data() + row * 5;
      std::vector<double> all(weights, weights + 5);
      double sum = 0, entropy = 0;
      for (double x : all) sum += x;
      if (sinks) all.push_back(1 - sum);
      for (double x : all) entropy -= x > 1e-15 ? x * std::log(x) : 0;
      EXPECT_EQ(sum < 0.999999, sinks);
      EXPECT_NEAR(p.entropy.data()[row], entropy, 1e-12);
      all.resize(5);
      // Every score is log p + lse.
      EXPECT_NEAR(p.max.data()[row],
                  std::log(*std::max_element(all.begin(), all.end())) + p.lse.data()[row], 1e-12);
      std::sort(all.rbegin(), all.rend());
      for (int64_t i = 0; i < p.kTop; ++i) {
        const int64_t key = p.top_keys.data()[row * p.kTop + i];
        EXPECT_EQ(p.top_weights.data()[row * p.kTop + i], all[i]);
        if (all[i] > 0) {
          EXPECT_EQ(weights[key], all[i]);
        } else {
          EXPECT_EQ(key, -1);
        }
      }
    }
  }
}

// Dropping and scaling by hand: out is what the kept weights give.
TEST(Reference, DropoutKeepsTheMeanOfWeights) {
  SerialExecutor serial;
  const Case c = {.shape = {.B = 1, .H = 1, .Hkv = 1, .T = 200, .S = 50, .D = 2, .Dv = 1},
                  .dropout = 0.25};
  Problem<double> p(c);
  p.v.fill(1);
  p.forward(serial);
  double sum = 0;
  for (int64_t t = 0; t < 200; ++t) {
    // Weights themselves are told before dropout.
    double weights = 0;
    for (int64_t s = 0; s < 50; ++s) weights += p.weights.at(0, 0, t, s);
    EXPECT_NEAR(weights, 1, 1e-14);
    sum += p.out.at(0, 0, t, 0);
  }
  EXPECT_NEAR(sum / 200, 1, 0.03);
}

}  // namespace
}  // namespace heed::testing
