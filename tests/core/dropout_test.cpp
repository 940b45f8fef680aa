// Dropout's generator: each pair as often as asked, and no pair knows of another, in any direction
// or from one seed, element or head to the next.
#include "heed/core/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

namespace heed {
namespace {

constexpr int64_t kT = 512, kS = 512;

// Which of [kT, kS] pairs are dropped.
std::vector<uint8_t> dropped(double p, uint64_t seed, int64_t b, int64_t h, int64_t t0 = 0) {
  const uint64_t key = dropout_key(seed, b, h);
  const uint32_t threshold = dropout_threshold(p);
  std::vector<uint8_t> all;
  for (int64_t t = t0; t < t0 + kT; ++t) {
    const uint32_t query = dropout_query_hash(key, t);
    for (int64_t s = 0; s < kS; ++s) {
      all.push_back(dropout_bits(query, dropout_key_hash(key, s)) < threshold);
    }
  }
  return all;
}

// Both in units of the deviation that chance alone gives.
double rate_deviation(const std::vector<uint8_t>& x, double p) {
  double sum = 0;
  for (uint8_t d : x) sum += d;
  const auto n = static_cast<double>(x.size());
  return (sum - n * p) / std::sqrt(n * p * (1 - p));
}
double correlation(const std::vector<uint8_t>& x, const std::vector<uint8_t>& y, int64_t dt,
                   int64_t ds, double p) {
  double sum = 0;
  int64_t n = 0;
  for (int64_t t = 0; t + dt < kT; ++t) {
    for (int64_t s = std::max<int64_t>(0, -ds); s < kS && s + ds < kS; ++s, ++n) {
      sum += (x[t * kS + s] - p) * (y[(t + dt) * kS + s + ds] - p);
    }
  }
  return sum / (p * (1 - p) * std::sqrt(static_cast<double>(n)));
}

// 4.5 deviations come by chance once in 150,000 draws; a few hundred are made here.
constexpr double kMost = 4.5;

TEST(Dropout, DropsAsOftenAsAsked) {
  for (double p : {0.001, 0.1, 0.5, 0.9}) {
    for (uint64_t seed : {0ull, 1ull, 2ull, 1ull << 63, ~0ull}) {
      for (int64_t t0 : {0ll, 60000ll, 1ll << 33}) {
        EXPECT_LT(std::abs(rate_deviation(dropped(p, seed, 0, 0, t0), p)), kMost)
            << p << " " << seed;
      }
    }
  }
}

TEST(Dropout, PairsAreIndependentInEveryDirection) {
  for (double p : {0.1, 0.5}) {
    const std::vector<uint8_t> x = dropped(p, 7, 1, 2);
    for (int64_t dt : {0, 1, 2, 3, 16, 48, 64, 256}) {
      for (int64_t ds : {-256, -64, -16, -2, -1, 0, 1, 2, 3, 16, 96, 128}) {
        if (dt == 0 && ds <= 0) continue;
        EXPECT_LT(std::abs(correlation(x, x, dt, ds, p)), kMost) << dt << " " << ds;
      }
    }
  }
}

TEST(Dropout, RowsAndColumnsVaryAsChanceHasIt) {
  constexpr double p = 0.2;
  const std::vector<uint8_t> x = dropped(p, 3, 0, 0);
  for (bool rows : {true, false}) {
    double sum = 0;  // of squared deviations: 1 each, give or take sqrt 2
    for (int64_t i = 0; i < kT; ++i) {
      std::vector<uint8_t> line;
      for (int64_t j = 0; j < kS; ++j) line.push_back(x[rows ? i * kS + j : j * kS + i]);
      sum += std::pow(rate_deviation(line, p), 2);
    }
    EXPECT_LT(std::abs(sum - kT) / std::sqrt(2.0 * kT), kMost);
  }
}

// The hash of a pair is that of two hashes: the four corners of a rectangle must not tell on one
// another.
TEST(Dropout, CornersOfRectanglesAreIndependent) {
  constexpr double p = 0.5;
  const std::vector<uint8_t> x = dropped(p, 11, 0, 0);
  for (const auto& [dt, ds] : {std::pair<int64_t, int64_t>{1, 1}, {2, 5}, {16, 16}, {64, 1}}) {
    double sum = 0;
    int64_t n = 0;
    for (int64_t t = 0; t + dt < kT; t += 2 * dt) {
      for (int64_t s = 0; s + ds < kS; s += 2 * ds, ++n) {
        const int parity =
            x[t * kS + s] ^ x[(t + dt) * kS + s] ^ x[t * kS + s + ds] ^ x[(t + dt) * kS + s + ds];
        sum += parity == 0 ? 1 : -1;
      }
    }
    EXPECT_LT(std::abs(sum) / std::sqrt(static_cast<double>(n)), kMost) << dt << " " << ds;
  }
}

TEST(Dropout, NeighbouringSeedsElementsAndHeadsAreIndependent) {
  constexpr double p = 0.3;
  const std::vector<uint8_t> x = dropped(p, 5, 0, 0);
  const std::vector<std::vector<uint8_t>> others = {dropped(p, 6, 0, 0),
                                                    dropped(p, 4, 0, 0),
                                                    dropped(p, 5, 1, 0),
                                                    dropped(p, 5, 0, 1),
                                                    dropped(p, 5, 1, 1),
                                                    dropped(p, 5, 2, 0),
                                                    dropped(p, 5 + (1ull << 32), 0, 0)};
  for (const std::vector<uint8_t>& y : others) {
    for (int64_t shift : {0, 1, 2}) {
      EXPECT_LT(std::abs(correlation(x, y, shift, 0, p)), kMost);
      EXPECT_LT(std::abs(correlation(x, y, 0, shift, p)), kMost);
      EXPECT_LT(std::abs(correlation(y, x, 0, shift, p)), kMost);
    }
  }
}

TEST(Dropout, EndsOfTheRange) {
  EXPECT_EQ(dropout_threshold(0), 0u);
  EXPECT_EQ(dropout_factor(0), 1);
  EXPECT_EQ(dropout_threshold(0.5), 1u << 31);
  EXPECT_EQ(dropout_threshold(1), ~0u);
  EXPECT_EQ(dropout_factor(1), 0);
}

// The bits themselves: a saved seed must drop the same tomorrow.
TEST(Dropout, BitsStayAsTheyAre) {
  const uint64_t key = dropout_key(42, 3, 5);
  EXPECT_EQ(dropout_bits(dropout_query_hash(key, 7), dropout_key_hash(key, 11)), 2787201211u);
}

}  // namespace
}  // namespace heed
