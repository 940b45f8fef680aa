// Interval arithmetic. Operations that IEEE rounds are monotone as rounded, so that ends need no
// widening; the functions of the maths library are trusted to 2^-48.
#include "heed/core/program/interval.h"

#include <algorithm>
#include <cmath>

namespace heed::program {
namespace {

// Ends that are NaN (inf - inf) say nothing.
Interval ends(double low, double high, bool maybe_nan) {
  const bool lost = std::isnan(low) || std::isnan(high);
  return lost ? kAnything : Interval{low, high, maybe_nan};
}

Interval truth(bool can, bool must) { return {must ? 1.0 : 0.0, can ? 1.0 : 0.0}; }

bool may_be_infinite(const Interval& x) { return std::isinf(x.low) || std::isinf(x.high); }
bool contains(const Interval& x, double value) { return x.low <= value && value <= x.high; }

Interval widened(const Interval& x) {
  constexpr double kError = 0x1p-48, kLeast = 0x1p-1060;  // denormals have an absolute error
  const auto error = [](double end) {
    return std::isinf(end) ? 0 : std::abs(end) * kError + kLeast;
  };
  return {x.low - error(x.low), x.high + error(x.high), x.maybe_nan};
}
Interval clamped(const Interval& x, double low, double high) {
  return {std::clamp(x.low, low, high), std::clamp(x.high, low, high), x.maybe_nan};
}
Interval floored(const Interval& x) { return {std::floor(x.low), std::floor(x.high), x.maybe_nan}; }

Interval of_corners(double w, double x, double y, double z, bool maybe_nan) {
  if (std::isnan(w) || std::isnan(x) || std::isnan(y) || std::isnan(z)) return kAnything;
  return {std::min({w, x, y, z}), std::max({w, x, y, z}), maybe_nan};
}

Interval add(const Interval& a, const Interval& b) {
  const bool opposite =
      (a.low == -kInfinity && b.high == kInfinity) || (a.high == kInfinity && b.low == -kInfinity);
  return ends(a.low + b.low, a.high + b.high, a.maybe_nan || b.maybe_nan || opposite);
}
Interval negate(const Interval& x) { return {-x.high, -x.low, x.maybe_nan}; }

Interval multiply(const Interval& a, const Interval& b) {
  const bool zero_times_infinity =
      (contains(a, 0) && may_be_infinite(b)) || (contains(b, 0) && may_be_infinite(a));
  const auto product = [](double x, double y) { return x == 0 || y == 0 ? 0 : x * y; };
  return of_corners(product(a.low, b.low), product(a.low, b.high), product(a.high, b.low),
                    product(a.high, b.high), a.maybe_nan || b.maybe_nan || zero_times_infinity);
}

Interval divide(const Interval& a, const Interval& b) {
  if (contains(b, 0)) return kAnything;
  return of_corners(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high,
                    a.maybe_nan || b.maybe_nan || (may_be_infinite(a) && may_be_infinite(b)));
}

// a - n floor(a / n) for divisors n in [n.low, n.high], all above zero.
Interval modulo_above_zero(Type type, const Interval& a, const Interval& n) {
  if (may_be_infinite(a) || may_be_infinite(n)) return kAnything;
  const bool nan = a.maybe_nan || n.maybe_nan;
  const double period = std::floor(a.low / n.low);
  if (n.low == n.high && period == std::floor(a.high / n.low)) {
    return {a.low - n.low * period, a.high - n.low * period, nan};
  }
  if (type == Type::kFloat) {  // the quotient may have been rounded up, or the product
    const double error = std::max({std::abs(a.low), std::abs(a.high), n.high}) * 0x1p-50;
    return {-error, n.high + error, nan};
  }
  const double high = n.high - 1;
  return {0, a.low >= 0 ? std::min(high, a.high) : high, nan};
}

Interval modulo(Type type, const Interval& a, const Interval& n) {
  if (n.low > 0) return modulo_above_zero(type, a, n);
  if (n.high < 0) return negate(modulo_above_zero(type, negate(a), negate(n)));
  return kAnything;
}

Interval integer_power(const Interval& a, double exponent) {
  if (exponent < 0 && contains(a, 0)) return kAnything;
  const double low = std::pow(a.low, exponent), high = std::pow(a.high, exponent);
  const bool turns = std::fmod(exponent, 2) == 0 && contains(a, 0);  // least inside
  return ends(turns && exponent > 0 ? 0 : std::min(low, high), std::max(low, high), a.maybe_nan);
}

Interval power(const Interval& a, const Interval& b) {
  if (is_always(b, 0)) return {1, 1};
  if (b.low == b.high && std::floor(b.low) == b.low && !b.maybe_nan && !std::isinf(b.low)) {
    return integer_power(a, b.low);
  }
  if (a.low < 0) return kAnything;
  // y log x is bilinear: its extremes are at corners.
  return of_corners(std::pow(a.low, b.low), std::pow(a.low, b.high), std::pow(a.high, b.low),
                    std::pow(a.high, b.high), a.maybe_nan || b.maybe_nan);
}

Interval absolute(const Interval& x) {
  if (x.low >= 0) return x;
  if (x.high <= 0) return negate(x);
  return {0, std::max(-x.low, x.high), x.maybe_nan};
}

Interval logarithm(const Interval& x) {
  if (x.high < 0) return kAnything;
  const Interval wide = widened({std::log(std::max(x.low, 0.0)), std::log(x.high)});
  return {wide.low, wide.high, x.maybe_nan || x.low < 0};
}

Interval square_root(const Interval& x) {
  if (x.high < 0) return kAnything;
  return {std::sqrt(std::max(x.low, 0.0)), std::sqrt(x.high), x.maybe_nan || x.low < 0};
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

Interval cast(Type type, const Interval& x) {
  switch (type) {
    case Type::kBool:
      return truth(x.low != 0 || x.high != 0 || x.maybe_nan, x.low > 0 || x.high < 0);
    case Type::kInt:
      return {std::trunc(x.low), std::trunc(x.high), x.maybe_nan};
    case Type::kFloat:
      break;
  }
  return x;
}

Interval compare(Op op, const Interval& a, const Interval& b) {
  const bool nan = a.maybe_nan || b.maybe_nan;
  const bool overlap = a.low <= b.high && b.low <= a.high;
  const bool same = a.low == a.high && b.low == b.high && a.low == b.low && !nan;
  switch (op) {
    case Op::kLess:
      return truth(a.low < b.high, a.high < b.low && !nan);
    case Op::kLessEqual:
      return truth(a.low <= b.high, a.high <= b.low && !nan);
    case Op::kEqual:
      return truth(overlap, same);
    default:  // kNotEqual, which NaN is to everything
      return truth(!same, !overlap);
  }
}

}  // namespace

Interval hull(const Interval& a, const Interval& b) {
  return {std::min(a.low, b.low), std::max(a.high, b.high), a.maybe_nan || b.maybe_nan};
}

Interval apply(Op op, Type type, const Interval& a, const Interval& b, const Interval& c) {
  const bool nan = a.maybe_nan || b.maybe_nan;
  switch (op) {
    case Op::kNeg:
      return negate(a);
    case Op::kAbs:
      return absolute(a);
    case Op::kExp:
      return clamped(widened({std::exp(a.low), std::exp(a.high), a.maybe_nan}), 0, kInfinity);
    case Op::kLog:
      return logarithm(a);
    case Op::kTanh:
      return clamped(widened({std::tanh(a.low), std::tanh(a.high), a.maybe_nan}), -1, 1);
    case Op::kSigmoid:
      return clamped(widened({sigmoid(a.low), sigmoid(a.high), a.maybe_nan}), 0, 1);
    case Op::kSqrt:
      return square_root(a);
    case Op::kFloor:
      return floored(a);
    case Op::kNot:
      return {1 - a.high, 1 - a.low};
    case Op::kCast:
      return cast(type, a);
    case Op::kAdd:
      return add(a, b);
    case Op::kSub:
      return add(a, negate(b));
    case Op::kMul:
      return multiply(a, b);
    case Op::kDiv:
      return divide(a, b);
    case Op::kFloorDiv:
      return floored(divide(a, b));
    case Op::kMod:
      return modulo(type, a, b);
    case Op::kPow:
      return type == Type::kFloat ? widened(power(a, b)) : power(a, b);
    case Op::kMin:
      return {std::min(a.low, b.low), std::min(a.high, b.high), nan};
    case Op::kMax:
      return {std::max(a.low, b.low), std::max(a.high, b.high), nan};
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kEqual:
    case Op::kNotEqual:
      return compare(op, a, b);
    case Op::kAnd:
      return {std::min(a.low, b.low), std::min(a.high, b.high)};
    case Op::kOr:
      return {std::max(a.low, b.low), std::max(a.high, b.high)};
    case Op::kWhere:
      return is_always(a, 1) ? b : is_always(a, 0) ? c : hull(b, c);
    default:
      return kAnything;
  }
}

}  // namespace heed::program
