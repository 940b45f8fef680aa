// A [B,H,T,D] tensor of a test: its memory, with guards around it, and the ways it can lie there.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "heed/core/ref/convert.h"
#include "heed/core/view.h"
#include "tests/core/guard_pages.h"

namespace heed::testing {

enum class Layout {
  kDense,
  kTokenMajor,    // [B,T,H,D], as a projection leaves it, and one element off any alignment
  kEndsAtPage,    // dense, right before an inaccessible page
  kBeginsAtPage,  // dense, right after one
  kRandom,        // any order of b, h and t, gaps between rows, negative strides; inputs also zero
};

inline double to_double(int64_t x) { return static_cast<double>(x); }
template <class X>
double to_double(X x) {
  return ref::to_double(x);
}
template <class X>
X from_double(double x) {
  if constexpr (std::is_same_v<X, int64_t>) {
    return static_cast<int64_t>(x);
  } else {
    return ref::from_double<X>(x);
  }
}

// Where rows lie: row (b, h, t) begins at first + b * stride[0] + h * stride[1] + t * stride[2] of
// `elements` elements.
struct Placement {
  std::array<int64_t, 3> stride = {};
  int64_t first = 0, elements = 0;
};

inline Placement random_placement(const std::array<int64_t, 3>& sizes, int64_t D, bool input,
                                  unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int64_t>(random() % n); };
  std::array<int, 3> order = {0, 1, 2};
  std::shuffle(order.begin(), order.end(), random);
  Placement place = {.first = below(4)};
  int64_t extent = D;
  for (int dimension : order) {
    if (input && below(6) == 0) continue;  // stride 0
    const int64_t stride = extent + (below(2) == 0 ? 0 : below(20));
    const int64_t steps = std::max<int64_t>(sizes[dimension], 1) - 1;
    const bool reversed = below(4) == 0;
    place.stride[dimension] = reversed ? -stride : stride;
    if (reversed) place.first += steps * stride;
    extent += steps * stride;
  }
  place.elements = extent + 8;
  return place;
}

template <class X>
class Tensor {
 public:
  enum class Role { kInput, kOutput };

  Tensor() = default;
  Tensor(std::array<int64_t, 4> sizes, Layout layout = Layout::kDense, Role role = Role::kOutput,
         unsigned seed = 0)
      : sizes_(sizes) {
    const auto [B, H, T, D] = sizes;
    Placement place = {.stride = {H * T * D, T * D, D}, .elements = B * H * T * D};
    if (layout == Layout::kTokenMajor) {
      place = {.stride = {H * T * D, D, H * D}, .first = 1, .elements = 1 + B * H * T * D};
    } else if (layout == Layout::kRandom) {
      place = random_placement({B, H, T}, D, role == Role::kInput, seed);
    }
    if (layout == Layout::kEndsAtPage || layout == Layout::kBeginsAtPage) {
      pages_.emplace(place.elements * sizeof(X), layout == Layout::kEndsAtPage
                                                     ? GuardedMemory::Side::kEndsAtPage
                                                     : GuardedMemory::Side::kBeginsAtPage);
      view_.data = reinterpret_cast<X*>(pages_->data());
    } else {
      memory_.assign(place.elements + 2 * kGuard, guard());
      view_.data = memory_.data() + kGuard + place.first;
    }
    view_.stride_b = place.stride[0];
    view_.stride_h = place.stride[1];
    view_.stride_t = place.stride[2];
  }

  void set_stride_b(int64_t stride) { view_.stride_b = stride; }
  View<X> view() const { return view_; }
  View<const X> const_view() const {
    return {view_.data, view_.stride_b, view_.stride_h, view_.stride_t};
  }
  X* data() const { return view_.data; }  // dense layouts: the whole tensor in order
  X& at(int64_t b, int64_t h, int64_t t, int64_t d) const { return view_.row(b, h, t)[d]; }
  int64_t size() const { return sizes_[0] * sizes_[1] * sizes_[2] * sizes_[3]; }
  int64_t size(int dimension) const { return sizes_[dimension]; }

  // Every element, in the order [B,H,T,D] whatever the layout.
  template <class Body>
  void each(Body body) const {
    each_row([&](X* row) {
      for (int64_t d = 0; d < sizes_[3]; ++d) body(row[d]);
    });
  }
  std::vector<double> values() const {
    std::vector<double> all;
    all.reserve(size());
    each([&](X x) { all.push_back(to_double(x)); });
    return all;
  }
  std::string bits() const {
    std::string all;
    each_row(
        [&](X* row) { all.append(reinterpret_cast<const char*>(row), sizes_[3] * sizeof(X)); });
    return all;
  }
  void fill(double x) const {
    each([&](X& y) { y = from_double<X>(x); });
  }
  // Whether everything around the rows is as it was.
  bool guards_intact() const {
    if (pages_) return true;  // else the process would have ended
    std::vector<bool> inside(memory_.size());
    each_row([&](const X* row) {
      for (int64_t d = 0; d < sizes_[3]; ++d) inside[row + d - memory_.data()] = true;
    });
    const X untouched = guard();
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (!inside[i] && std::memcmp(&memory_[i], &untouched, sizeof(X)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuard = 64;  // more than the widest vector on either side
  static X guard() { return from_double<X>(12345); }

  template <class Body>
  void each_row(Body body) const {
    for (int64_t b = 0; b < sizes_[0]; ++b) {
      for (int64_t h = 0; h < sizes_[1]; ++h) {
        for (int64_t t = 0; t < sizes_[2]; ++t) body(view_.row(b, h, t));
      }
    }
  }

  std::array<int64_t, 4> sizes_ = {};
  std::vector<X> memory_;
  std::optional<GuardedMemory> pages_;
  View<X> view_;
};

}  // namespace heed::testing
