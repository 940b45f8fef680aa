// Sizes and strided views: how the core sees a tensor. It never owns memory.
#pragma once

#include <cstdint>

namespace heed {

// B batch, H query heads, Hkv key/value heads (H % Hkv == 0), T queries, S keys,
// D width of a query and a key, Dv width of a value.
struct Shape {
  int64_t B = 0, H = 0, Hkv = 0, T = 0, S = 0, D = 0, Dv = 0;
  int64_t group() const { return Hkv == 0 ? 1 : H / Hkv; }  // query heads that share one key head
};

// Rows of a [B,H,T,D] tensor, addressed (b, h, t); the last dimension is contiguous.
// Strides are in elements and may be zero or negative.
template <class Element>
struct View {
  Element* data = nullptr;
  int64_t stride_b = 0, stride_h = 0, stride_t = 0;

  Element* row(int64_t b, int64_t h, int64_t t) const {
    return data + b * stride_b + h * stride_h + t * stride_t;
  }
  explicit operator bool() const { return data != nullptr; }
};

// The view of a dense [B,H,T,D] tensor.
template <class Element>
View<Element> dense_view(Element* data, int64_t H, int64_t T, int64_t D) {
  return {.data = data, .stride_b = H * T * D, .stride_h = T * D, .stride_t = D};
}

}  // namespace heed
