// Linear attention, forward and backward: every kernel set against the reference in double, the
// reference against its formula and finite differences, and the promises beside the numbers.
#include "heed/core/linear_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "heed/core/ref/convert.h"
#include "tests/core/each_isa.h"

namespace heed::testing {
namespace {

using ref::from_double;
using ref::to_double;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Case {
  Shape shape;
  FeatureMap map = FeatureMap::kElu;
  bool causal = false;
  double size = 1;  // standard deviation of q and k
  bool token_major = false;
};

std::string name_of(const Case& c) {
  const char* const maps[] = {"elu", "relu", "exp"};
  std::string name = maps[static_cast<int>(c.map)];
  if (c.causal) name += " causal";
  if (c.token_major) name += " token_major";
  for (const auto& [letter, size] : {std::pair("B", c.shape.B),
                                     {"H", c.shape.H},
                                     {"Hkv", c.shape.Hkv},
                                     {"T", c.shape.T},
                                     {"S", c.shape.S},
                                     {"D", c.shape.D},
                                     {"Dv", c.shape.Dv}}) {
    name += std::string(" ") + letter + std::to_string(size);
  }
  return name + " size " + std::to_string(c.size);
}

// A [B,H,T,D] tensor between guards, dense or token-major and off any alignment.
template <class E>
struct Tensor {
  int64_t B, H, T, D;
  std::vector<E> data;
  View<E> view;

  Tensor(int64_t b, int64_t h, int64_t t, int64_t d, bool token_major)
      : B(b),
        H(h),
        T(t),
        D(d),
        data(static_cast<size_t>(2 * kGuard + 1 + B * H * T * D), from_double<E>(kGuardValue)) {
    view.data = data.data() + kGuard + (token_major ? 1 : 0);
    view.stride_b = H * T * D;
    view.stride_h = token_major ? D : T * D;
    view.stride_t = token_major ? H * D : D;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  View<const E> const_view() const {
    return {view.data, view.stride_b, view.stride_h, view.stride_t};
  }
  E& at(int64_t b, int64_t h, int64_t t, int64_t d) const { return view.row(b, h, t)[d]; }
  void fill_row(int64_t b, int64_t h, int64_t t, double x) const {
    for (int64_t d = 0; d < D; ++d) at(b, h, t, d) = from_double<E>(x);
  }
  template <class Body>
  void each(Body body) const {
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = 0; t < T; ++t)
          for (int64_t d = 0; d < D; ++d) body(at(b, h, t, d));
  }
  std::vector<double> values() const {
    std::vector<double> all;
    each([&](const E& x) { all.push_back(to_double(x)); });
    return all;
  }
  // Rows [begin, end) of every head, bit by bit.
  std::string bits(int64_t begin, int64_t end, int64_t first_b = 0) const {
    std::string all;
    for (int64_t b = first_b; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = begin; t < end; ++t) {
          all.append(reinterpret_cast<const char*>(view.row(b, h, t)), D * sizeof(E));
        }
    return all;
  }
  std::string bits() const { return bits(0, T); }
  bool guards_intact() const {
    const E* begin = view.data;
    const E* end = begin + B * H * T * D;
    for (const E& x : data) {
      if ((&x < begin || &x >= end) && to_double(x) != kGuardValue) return false;
    }
    return true;
  }

  static constexpr int64_t kGuard = 64;         // more than the widest vector
  static constexpr double kGuardValue = 12352;  // exact in every type
};

template <class E>
struct Problem {
  Case c;
  Tensor<E> q, k, v, d_out, out, d_q, d_k, d_v;

  explicit Problem(const Case& problem_case, unsigned seed = 1)
      : c(problem_case),
        q(c.shape.B, c.shape.H, c.shape.T, c.shape.D, c.token_major),
        k(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.D, c.token_major),
        v(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.Dv, c.token_major),
        d_out(c.shape.B, c.shape.H, c.shape.T, c.shape.Dv, c.token_major),
        out(c.shape.B, c.shape.H, c.shape.T, c.shape.Dv, c.token_major),
        d_q(c.shape.B, c.shape.H, c.shape.T, c.shape.D, c.token_major),
        d_k(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.D, c.token_major),
        d_v(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.Dv, c.token_major) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const Tensor<E>* x : {&q, &k, &v, &d_out}) {
      const float size = x == &q || x == &k ? static_cast<float>(c.size) : 1;
      // Off relu's kink: rows with hardly any weight have gradients that no rounding bound fits.
      const float offset = c.map == FeatureMap::kRelu && x != &v && x != &d_out ? 0.25f : 0;
      x->each([&](E& y) {
        const float z = size * normal(random);
        y = from_double<E>(z + std::copysign(offset, z));
      });
    }
    for (const auto& [name, x] : results()) {
      x->each([](E& y) { y = from_double<E>(kNaN); });  // what is left unwritten shows
    }
  }

  LinearAttentionInputs<E> inputs() const {
    return {c.shape, c.map, c.causal, q.const_view(), k.const_view(), v.const_view()};
  }
  void forward(Executor& executor) const { linear_attention_forward(inputs(), out.view, executor); }
  void backward(Executor& executor) const {
    linear_attention_backward(
        inputs(), {out.const_view(), d_out.const_view(), d_q.view, d_k.view, d_v.view}, executor);
  }
  void solve(Executor& executor) const {
    forward(executor);
    backward(executor);
  }
  std::vector<std::pair<const char*, const Tensor<E>*>> results() const {
    return {{"out", &out}, {"d_q", &d_q}, {"d_k", &d_k}, {"d_v", &d_v}};
  }
  std::string bits() const {
    std::string all;
    for (const auto& [name, x] : results()) all += x->bits();
    return all;
  }
  // The same numbers in another type.
  template <class Other>
  void copy_inputs(const Problem<Other>& from) const {
    const auto copy = [](const Tensor<Other>& x, const Tensor<E>& y) {
      const std::vector<double> all = x.values();
      size_t i = 0;
      y.each([&](E& element) { element = from_double<E>(all[i++]); });
    };
    copy(from.q, q);
    copy(from.k, k);
    copy(from.v, v);
    copy(from.d_out, d_out);
  }
};

std::vector<Case> all_cases() {
  std::vector<Shape> shapes;
  for (int64_t n : {1, 7, 15, 16, 17, 63, 64, 65, 129}) {
    shapes.push_back({.B = 1, .H = 2, .Hkv = 1, .T = n, .S = n, .D = 9, .Dv = 5});
    shapes.push_back({.B = 1, .H = 1, .Hkv = 1, .T = n, .S = 70, .D = 16, .Dv = 16});
    shapes.push_back({.B = 1, .H = 1, .Hkv = 1, .T = 70, .S = n, .D = 3, .Dv = 17});
    shapes.push_back({.B = 2, .H = 2, .Hkv = 2, .T = 20, .S = 20, .D = n, .Dv = 2 * n % 31 + 1});
    shapes.push_back({.B = 1, .H = 3, .Hkv = 1, .T = 66, .S = 66, .D = 8, .Dv = n});
  }
  shapes.push_back({.B = 2, .H = 4, .Hkv = 2, .T = 130, .S = 130, .D = 64, .Dv = 64});
  shapes.push_back({.B = 1, .H = 1, .Hkv = 1, .T = 1100, .S = 1100, .D = 32, .Dv = 48});
  shapes.push_back({.B = 1, .H = 2, .Hkv = 1, .T = 600, .S = 1300, .D = 20, .Dv = 4});
  shapes.push_back({.B = 1, .H = 2, .Hkv = 1, .T = 1300, .S = 600, .D = 4, .Dv = 20});
  shapes.push_back({.B = 1, .H = 1, .Hkv = 1, .T = 70, .S = 70, .D = 257, .Dv = 512});
  std::vector<Case> cases;
  for (const Shape& shape : shapes) {
    for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
      for (bool causal : {false, true}) {
        cases.push_back({shape, map, causal, 1, cases.size() % 4 >= 2});
      }
    }
  }
  return cases;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (double x : values) most = std::max(most, std::abs(x));
  return most;
}

// Rounding of sums of up to 1300 terms, with weights of one sign: 3e-6 of the largest element is 25
// eps of float; a wrong index or a lost term is off by far more. Half types round the result once,
// and the backward sees that in `out`.
template <class E>
double relative_tolerance() {
  if constexpr (ElementTraits<E>::kElement == Element::kBFloat16) return 0x1p-7;
  if constexpr (ElementTraits<E>::kElement == Element::kFloat16) return 0x1p-10;
  return 3e-6;
}

// Gradients by q and k are differences of sums in the size of <d_out, out> (where features are at
// least a quarter of their slopes, or none): what their rounding is relative to.
template <class E>
double size_of_terms(const char* name, const Problem<E>& p) {
  const Shape& shape = p.c.shape;
  const std::vector<double> out = p.out.values(), d_out = p.d_out.values();
  double most = 0, sum = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    sum = i % shape.Dv == 0 ? 0 : sum;
    sum += std::abs(out[i] * d_out[i]);
    most = std::max(most, 4 * sum);
  }
  if (std::strcmp(name, "d_q") == 0) return most;
  if (std::strcmp(name, "d_k") == 0) {
    return most * std::sqrt(static_cast<double>(shape.T * shape.group())) / shape.S;
  }
  return 0;
}

template <class E>
void expect_close(const Problem<E>& got, const Problem<double>& want, double relative) {
  for (size_t i = 0; i < got.results().size(); ++i) {
    const auto [name, tensor] = got.results()[i];
    const std::vector<double> g = tensor->values(), w = want.results()[i].second->values();
    ASSERT_EQ(g.size(), w.size());
    double worst = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      const double error = std::abs(g[j] - w[j]);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
    EXPECT_LE(worst, relative * std::max({1.0, largest(w), size_of_terms(name, want)})) << name;
    EXPECT_TRUE(tensor->guards_intact()) << name << " written out of bounds";
  }
}

template <class E>
void expect_the_reference(const Case& c, double relative) {
  SCOPED_TRACE(name_of(c));
  SerialExecutor serial;
  Problem<E> got(c);
  Problem<double> want(c);
  want.copy_inputs(got);
  want.solve(serial);
  for_each_isa([&] {
    if (isa() == Isa::kRef && c.shape.T > 300) return;  // slow
    got.solve(serial);
    expect_close(got, want, relative);
  });
}

TEST(LinearAttention, EqualsTheDoubleReferenceAndStaysInBounds) {
  int64_t count = 0;
  for (const Case& c : all_cases()) {
    expect_the_reference<float>(c, relative_tolerance<float>());
    if (++count % 5 != 0 || c.shape.T > 300)
      continue;  // 5 and 6, the maps times causal, are coprime
    expect_the_reference<BFloat16>(c, relative_tolerance<BFloat16>());
    expect_the_reference<Float16>(c, relative_tolerance<Float16>());
  }
}

// exp of these overflows by itself, within a chunk and across chunks. Weights then hang on
// rounding of the exponents: eps * 1000.
TEST(LinearAttention, HugeExponentsAreExact) {
  for (bool causal : {false, true}) {
    for (double size : {30.0, 300.0}) {
      for (int64_t T : {40, 200, 700}) {
        const Case c = {{.B = 1, .H = 2, .Hkv = 1, .T = T, .S = T, .D = 17, .Dv = 9},
                        FeatureMap::kExp,
                        causal,
                        size};
        expect_the_reference<float>(c, size * 1e-6);
      }
    }
  }
}

std::vector<Case> long_cases() {
  std::vector<Case> cases;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (bool causal : {false, true}) {
      for (const auto& [T, S] : {std::pair<int64_t, int64_t>{1700, 1700}, {30, 1100}, {1100, 30}}) {
        cases.push_back(
            {{.B = 1, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 20, .Dv = 12}, map, causal});
      }
      cases.push_back(
          {{.B = 3, .H = 4, .Hkv = 2, .T = 90, .S = 90, .D = 20, .Dv = 12}, map, causal});
    }
    cases.push_back(
        {{.B = 1, .H = 1, .Hkv = 1, .T = 1100, .S = 1100, .D = 5, .Dv = 3}, map, true, 100});
  }
  return cases;
}

TEST(LinearAttention, BitsDoNotDependOnThreads) {
  std::vector<std::unique_ptr<ThreadPool>> pools;
  for (int threads : {1, 2, 3, 5}) pools.push_back(std::make_unique<ThreadPool>(threads));
  for (const Case& c : long_cases()) {
    SCOPED_TRACE(name_of(c));
    for_each_isa([&] {
      if (isa() == Isa::kRef) return;
      Problem<float> first(c);
      first.solve(*pools[0]);
      for (const auto& pool : pools) {
        Problem<float> again(c);
        again.solve(*pool);
        EXPECT_EQ(first.bits(), again.bits()) << pool->threads() << " threads";
      }
    });
  }
}

TEST(LinearAttention, BitsDoNotDependOnBatchNeighbours) {
  SerialExecutor serial;
  for (const Case& c : all_cases()) {
    if (c.shape.B < 2) continue;
    SCOPED_TRACE(name_of(c));
    for_each_isa([&] {
      Problem<float> together(c);
      Case alone_case = c;
      alone_case.shape.B = 1;
      Problem<float> alone(alone_case);
      const auto copy = [](const Tensor<float>& from, const Tensor<float>& to) {
        for (int64_t h = 0; h < to.H; ++h)
          for (int64_t t = 0; t < to.T; ++t)
            std::copy_n(from.view.row(from.B - 1, h, t), to.D, to.view.row(0, h, t));
      };
      copy(together.q, alone.q);
      copy(together.k, alone.k);
      copy(together.v, alone.v);
      copy(together.d_out, alone.d_out);
      together.solve(serial);
      alone.solve(serial);
      for (size_t i = 0; i < alone.results().size(); ++i) {
        const Tensor<float>& all = *together.results()[i].second;
        EXPECT_EQ(all.bits(0, all.T, c.shape.B - 1), alone.results()[i].second->bits())
            << alone.results()[i].first;
      }
    });
  }
}

// Rows before a change keep their bits, whatever the change, and the gradients of what they read.
TEST(LinearAttention, TheFutureChangesNoBitOfThePast) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (int64_t change : {1, 10, 63, 64, 100, 520}) {
      for (double x : {kNaN, kInfinity, -kInfinity, 1e30, 300.0, -2.0}) {
        const int64_t T = change < 150 ? 150 : 600;
        const Case c = {{.B = 1, .H = 2, .Hkv = 1, .T = T, .S = T, .D = 20, .Dv = 12}, map, true};
        SCOPED_TRACE(name_of(c) + " " + std::to_string(x) + " at " + std::to_string(change));
        for_each_isa([&] {
          if (isa() == Isa::kRef && T > 150) return;  // slow
          Problem<float> clean(c), changed(c);
          changed.k.at(0, 0, change, 7) = static_cast<float>(x);
          changed.v.at(0, 0, change, 3) = static_cast<float>(x);
          clean.solve(serial);
          changed.solve(serial);
          EXPECT_EQ(clean.out.bits(0, change), changed.out.bits(0, change));
          EXPECT_EQ(clean.d_q.bits(0, change), changed.d_q.bits(0, change));
          EXPECT_NE(clean.out.bits(), changed.out.bits());
        });
      }
    }
  }
}

TEST(LinearAttention, NanReachesTheRowsThatSeeIt) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (bool causal : {false, true}) {
      const Case c = {
          {.B = 1, .H = 2, .Hkv = 1, .T = 150, .S = 150, .D = 20, .Dv = 12}, map, causal};
      SCOPED_TRACE(name_of(c));
      for_each_isa([&] {
        Problem<float> in_key(c), in_value(c);
        in_key.k.at(0, 0, 70, 7) = static_cast<float>(kNaN);
        in_value.v.at(0, 0, 70, 3) = static_cast<float>(kNaN);
        in_key.forward(serial);
        in_value.forward(serial);
        for (int64_t t = 0; t < 150; ++t) {
          const bool sees = !causal || t >= 70;
          for (int64_t d = 0; d < 12; ++d) {
            EXPECT_EQ(std::isnan(in_key.out.at(0, 1, t, d)), sees) << t;
            EXPECT_EQ(std::isnan(in_value.out.at(0, 1, t, d)), sees && d == 3) << t;
          }
        }
      });
    }
  }
}

// A query that is not finite harms the keys that it sees, not those after.
TEST(LinearAttention, NanInAQuerySparesTheKeysAfterIt) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (int64_t bad : {0, 20, 63, 64, 100}) {
      const Case c = {{.B = 1, .H = 2, .Hkv = 1, .T = 150, .S = 150, .D = 20, .Dv = 12}, map, true};
      SCOPED_TRACE(name_of(c));
      for_each_isa([&] {
        for (bool in_gradient : {false, true}) {
          Problem<float> clean(c), poisoned(c);
          (in_gradient ? poisoned.d_out : poisoned.q).at(0, 1, bad, 4) = static_cast<float>(kNaN);
          clean.solve(serial);
          poisoned.solve(serial);
          EXPECT_EQ(clean.d_k.bits(bad + 1, 150), poisoned.d_k.bits(bad + 1, 150)) << bad;
          EXPECT_EQ(clean.d_v.bits(bad + 1, 150), poisoned.d_v.bits(bad + 1, 150)) << bad;
          EXPECT_TRUE(std::isnan(poisoned.d_k.at(0, 0, bad, 4)));
        }
      });
    }
  }
}

// Keys after the last query.
TEST(LinearAttention, UnseenKeysLeakNothing) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    const Case c = {{.B = 1, .H = 2, .Hkv = 1, .T = 70, .S = 150, .D = 20, .Dv = 12}, map, true};
    for_each_isa([&] {
      Problem<float> clean(c), poisoned(c);
      for (int64_t s = 70; s < 150; ++s) {
        poisoned.k.fill_row(0, 0, s, kNaN);
        poisoned.v.fill_row(0, 0, s, kInfinity);
      }
      clean.solve(serial);
      poisoned.solve(serial);
      EXPECT_EQ(clean.bits(), poisoned.bits());
      EXPECT_EQ(clean.d_k.at(0, 0, 149, 0), 0.0f);
    });
  }
}

TEST(LinearAttention, RowWithoutWeightIsZero) {
  SerialExecutor serial;
  for (bool causal : {false, true}) {
    const Case c = {
        {.B = 1, .H = 1, .Hkv = 1, .T = 100, .S = 100, .D = 6, .Dv = 4}, FeatureMap::kRelu, causal};
    for_each_isa([&] {
      Problem<float> problem(c);
      problem.q.fill_row(0, 0, 30, -1);
      problem.solve(serial);
      for (int64_t d = 0; d < 4; ++d) EXPECT_EQ(problem.out.at(0, 0, 30, d), 0.0f);
      for (int64_t d = 0; d < 6; ++d) EXPECT_EQ(problem.d_q.at(0, 0, 30, d), 0.0f);
      for (const auto& [name, tensor] : problem.results()) {
        for (double x : tensor->values()) ASSERT_TRUE(std::isfinite(x)) << name;
      }
    });
  }
}

TEST(LinearAttention, EmptySizesGiveZeros) {
  SerialExecutor serial;
  for (const Shape& shape : {Shape{.B = 0, .H = 2, .Hkv = 1, .T = 3, .S = 3, .D = 4, .Dv = 4},
                             {.B = 2, .H = 2, .Hkv = 1, .T = 0, .S = 3, .D = 4, .Dv = 4},
                             {.B = 2, .H = 2, .Hkv = 1, .T = 3, .S = 0, .D = 4, .Dv = 4},
                             {.B = 2, .H = 2, .Hkv = 1, .T = 3, .S = 3, .D = 0, .Dv = 4},
                             {.B = 2, .H = 0, .Hkv = 1, .T = 3, .S = 3, .D = 4, .Dv = 4},
                             {.B = 2, .H = 2, .Hkv = 1, .T = 3, .S = 3, .D = 4, .Dv = 0}}) {
    for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
      for (bool causal : {false, true}) {
        const Case c = {shape, map, causal};
        SCOPED_TRACE(name_of(c));
        for_each_isa([&] {
          Problem<float> problem(c);
          problem.solve(serial);
          for (const auto& [name, tensor] : problem.results()) {
            for (double x : tensor->values()) EXPECT_EQ(x, 0) << name;
          }
        });
      }
    }
  }
}

// ---- The reference itself.

double feature(FeatureMap map, double x) {
  if (map == FeatureMap::kRelu) return std::max(x, 0.0);
  return map == FeatureMap::kElu && x > 0 ? x + 1 : std::exp(x);
}

TEST(LinearReference, IsItsFormula) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (bool causal : {false, true}) {
      const Case c = {{.B = 2, .H = 4, .Hkv = 2, .T = 6, .S = 5, .D = 4, .Dv = 3}, map, causal};
      Problem<double> p(c);
      p.forward(serial);
      for (int64_t h = 0; h < 4; ++h) {
        for (int64_t t = 0; t < 6; ++t) {
          double sum = 0, total[3] = {};
          for (int64_t s = 0; s < 5 && (!causal || s <= t); ++s) {
            double w = 0;
            for (int64_t d = 0; d < 4; ++d) {
              w += feature(map, p.q.at(1, h, t, d)) * feature(map, p.k.at(1, h / 2, s, d));
            }
            sum += w;
            for (int64_t d = 0; d < 3; ++d) total[d] += w * p.v.at(1, h / 2, s, d);
          }
          for (int64_t d = 0; d < 3; ++d) {
            EXPECT_NEAR(p.out.at(1, h, t, d), sum == 0 ? 0 : total[d] / sum, 1e-12);
          }
        }
      }
    }
  }
}

double objective(const Problem<double>& p) {
  SerialExecutor serial;
  p.forward(serial);
  const std::vector<double> out = p.out.values(), d_out = p.d_out.values();
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) sum += out[i] * d_out[i];
  return sum;
}

TEST(LinearReference, GradientsEqualFiniteDifferences) {
  SerialExecutor serial;
  for (FeatureMap map : {FeatureMap::kElu, FeatureMap::kRelu, FeatureMap::kExp}) {
    for (bool causal : {false, true}) {
      const Case c = {{.B = 2, .H = 4, .Hkv = 2, .T = 4, .S = 5, .D = 4, .Dv = 3}, map, causal};
      SCOPED_TRACE(name_of(c));
      Problem<double> p(c);
      p.solve(serial);
      const auto check = [&](const char* name, const Tensor<double>& x,
                             const Tensor<double>& gradient) {
        const std::vector<double> want = gradient.values();
        size_t i = 0;
        x.each([&](double& element) {
          constexpr double kStep = 1e-6;  // error of the difference: about step^2
          const double before = element;
          element = before + kStep;
          const double above = objective(p);
          element = before - kStep;
          const double below = objective(p);
          element = before;
          EXPECT_NEAR((above - below) / (2 * kStep), want[i++], 1e-6) << name;
        });
      };
      check("d_q", p.q, p.d_q);
      check("d_k", p.k, p.d_k);
      check("d_v", p.v, p.d_v);
    }
  }
}

}  // namespace
}  // namespace heed::testing
