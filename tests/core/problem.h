// An attention problem for tests: sizes and options, data with guards around it, and its solution
// by the kernels in float or by the reference in double.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "heed/core/attention.h"

namespace heed::testing {

enum class Lengths { kNone, kMixed, kFull };  // kMixed runs from 0 to S over the batch

// How a [B,H,T,D] tensor lies in memory.
enum class Layout {
  kDense,
  kTokenMajor,  // [B,T,H,D], as a projection leaves it, and one float off any alignment
};

struct Case {
  Shape shape;
  Score score = Score::kDot;
  Causal causal = Causal::kNone;
  Lengths lengths = Lengths::kNone;
  Layout layout = Layout::kDense;
  double scale = 0;  // 0: 1 / sqrt(D)
};

std::string name_of(const Case& c);

// A [B,H,T,D] tensor between guard elements.
template <class Real>
class Tensor {
 public:
  Tensor() = default;
  Tensor(int64_t B, int64_t H, int64_t T, int64_t D, Layout layout = Layout::kDense)
      : B_(B), H_(H), T_(T), D_(D), data_(2 * kGuard + 1 + B * H * T * D, kGuardValue) {
    const int64_t shift = layout == Layout::kTokenMajor ? 1 : 0;
    view_.data = data_.data() + kGuard + shift;
    view_.stride_b = H * T * D;
    view_.stride_h = layout == Layout::kTokenMajor ? D : T * D;
    view_.stride_t = layout == Layout::kTokenMajor ? H * D : D;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  View<Real> view() const { return view_; }
  View<const Real> const_view() const {
    return {view_.data, view_.stride_b, view_.stride_h, view_.stride_t};
  }
  Real* data() const { return view_.data; }  // dense layout: the whole tensor in order
  Real& at(int64_t b, int64_t h, int64_t t, int64_t d) const { return view_.row(b, h, t)[d]; }
  int64_t rows() const { return B_ * H_ * T_; }
  int64_t width() const { return D_; }

  // Every element, in the order [B,H,T,D] whatever the layout.
  template <class Body>
  void each(Body body) const {
    for (int64_t b = 0; b < B_; ++b)
      for (int64_t h = 0; h < H_; ++h)
        for (int64_t t = 0; t < T_; ++t)
          for (int64_t d = 0; d < D_; ++d) body(at(b, h, t, d));
  }
  std::vector<Real> values() const {
    std::vector<Real> all;
    each([&](Real x) { all.push_back(x); });
    return all;
  }
  void fill(Real x) const {
    each([&](Real& y) { y = x; });
  }
  bool guards_intact() const {
    const Real* begin = view_.data;
    const Real* end = begin + B_ * H_ * T_ * D_;
    for (const Real& x : data_) {
      if ((&x < begin || &x >= end) && x != kGuardValue) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuard = 64;         // more than the widest vector on either side
  static constexpr Real kGuardValue = 12345.5;  // exact in float
  int64_t B_ = 0, H_ = 0, T_ = 0, D_ = 0;
  std::vector<Real> data_;
  View<Real> view_;
};

// Data of a case and everything computed from it.
template <class Real>
struct Problem {
  Case c;
  Tensor<Real> q, k, v, weight, d_out, d_lse;  // weight [1,1,H,D]; d_lse [B,H,T] as [1,1,1,BHT]
  Tensor<Real> out, lse, weights, d_q, d_k, d_v, d_weight;
  std::vector<int64_t> lengths;

  // The same numbers for every Real, drawn as floats.
  explicit Problem(const Case& problem_case, unsigned seed = 1);

  AttentionInputs<Real> inputs() const;
  void forward(Executor& executor, bool with_weights = true);
  void backward(Executor& executor);
  void solve(Executor& executor) {
    forward(executor);
    backward(executor);
  }
  // The results with their names, in one order for every Real.
  std::vector<std::pair<const char*, const Tensor<Real>*>> results() const;
};

extern template struct Problem<float>;
extern template struct Problem<double>;

// The table that every test of the kernels walks.
const std::vector<Case>& all_cases();

}  // namespace heed::testing
