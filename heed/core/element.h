// The number types of tensors, and their conversion to double and back, rounding to nearest even.
#pragma once

#include <cstdint>

namespace heed {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

enum class Element : uint8_t { kFloat32, kBFloat16, kFloat16, kFloat64, kInt32, kInt64, kBool };

// What a type is reduced and reported in: double for double, float for every other.
template <class T>
struct ElementTraits;
template <>
struct ElementTraits<float> {
  using Real = float;
  static constexpr Element kElement = Element::kFloat32;
};
template <>
struct ElementTraits<double> {
  using Real = double;
  static constexpr Element kElement = Element::kFloat64;
};
template <>
struct ElementTraits<BFloat16> {
  using Real = float;
  static constexpr Element kElement = Element::kBFloat16;
};
template <>
struct ElementTraits<Float16> {
  using Real = float;
  static constexpr Element kElement = Element::kFloat16;
};
template <class T>
using RealOf = typename ElementTraits<T>::Real;

}  // namespace heed
