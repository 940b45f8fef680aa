// Passes over the values, each on what the one before left.
#include "heed/core/program/fuse.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace heed::program {
namespace {

// Whether an argument's last bit decides: steps, comparisons, indices and integer exponents.
bool decides(const Value& value, int arg) {
  switch (value.code) {
    case Code::kFloor:
    case Code::kTruncate:
    case Code::kNot:
    case Code::kIsNonzero:
    case Code::kFloorDiv:
    case Code::kMod:
    case Code::kLess:
    case Code::kLessEqual:
    case Code::kEqual:
    case Code::kNotEqual:
    case Code::kMaskIf:
    case Code::kMaskOr:
    case Code::kMaskLess:
    case Code::kMaskLessEqual:
    case Code::kMaskEqual:
    case Code::kMaskNotEqual:
      return true;
    case Code::kWhere:
      return arg == 0;
    case Code::kPow:
      return arg == 1;
    default:
      return false;
  }
}

class Fusion {
 public:
  explicit Fusion(Values& values) : values_(values) {}

  void divide_by_inverses();
  void gather_factors();
  void fuse_sums();
  void fuse_tanh();
  void fuse_weights();

 private:
  void count();
  std::optional<Value> only_product(int value, Space space) const;
  std::optional<std::pair<int, int>> scaled(const Value& product) const;
  int product(const std::vector<int>& factors);
  std::vector<int> factors_of(int root);
  void rebuild_product(int root, const std::vector<int>& factors);

  Values& values_;
  std::vector<int> order_, uses_;
  std::vector<bool> exact_;     // some step or comparison depends on it
  std::vector<bool> gathered_;  // into a product that contains it
};

void Fusion::count() {
  order_ = order_of(values_);
  uses_.assign(values_.size(), 0);
  exact_.assign(values_.size(), false);
  for (int sink : values_.sinks) ++uses_[sink];
  for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
    const Value& value = values_.items[*at];
    values_.for_each_read(value, [&](int arg) {
      ++uses_[arg];
      if (exact_[*at]) exact_[arg] = true;
    });
    for (int n = 0; n < 3; ++n) {
      if (value.args[n] >= 0 && decides(value, n)) exact_[value.args[n]] = true;
    }
    if (value.lookup < 0) continue;
    for (const LookupIndex& index : values_.lookups[value.lookup].indices) {
      exact_[index.value] = true;
    }
  }
}

// A divisor that many pairs share is inverted once, if the quotient's last bit does not matter.
void Fusion::divide_by_inverses() {
  count();
  for (int i : order_) {
    const Value value = values_.items[i];
    if (value.code != Code::kDiv || value.space != Space::kPair) continue;
    const int divisor = value.args[1];
    if (exact_[i] || values_.items[divisor].space == Space::kPair) continue;
    const int one = values_.append(Values::constant(1));
    const int inverse = values_.append(values_.operation(Code::kDiv, {one, divisor}));
    values_.items[i].code = Code::kMul;
    values_.items[i].args[1] = inverse;
  }
}

int Fusion::product(const std::vector<int>& factors) {
  int result = factors[0];
  for (size_t i = 1; i < factors.size(); ++i) {
    const Value a = values_.items[result], b = values_.items[factors[i]];
    const bool constants = a.code == Code::kConstant && b.code == Code::kConstant;
    result = values_.append(constants ? Values::constant(a.constant * b.constant)
                                      : values_.operation(Code::kMul, {result, factors[i]}));
  }
  return result;
}

// The factors of a product, down to values that others read, too, or that vary with less than
// pairs. A sign is a factor of -1.
std::vector<int> Fusion::factors_of(int root) {
  std::vector<int> open = {root}, factors;
  bool negative = false;
  while (!open.empty()) {
    const int i = open.back();
    open.pop_back();
    const Value& value = values_.items[i];
    const bool product = value.code == Code::kMul || value.code == Code::kNeg;
    if (!product || value.space != Space::kPair || (i != root && uses_[i] > 1)) {
      factors.push_back(i);
      continue;
    }
    gathered_[i] = true;
    negative ^= value.code == Code::kNeg;
    if (value.code == Code::kMul) open.push_back(value.args[1]);
    open.push_back(value.args[0]);
  }
  if (negative) factors.push_back(values_.append(Values::constant(-1)));
  return factors;
}

// Numbers into what varies with little, that into pairs.
void Fusion::rebuild_product(int root, const std::vector<int>& factors) {
  std::vector<int> by_space[kSpaces];
  for (int factor : factors) {
    by_space[static_cast<int>(values_.items[factor].space)].push_back(factor);
  }
  std::vector<int> terms = by_space[static_cast<int>(Space::kPair)];
  const std::vector<int>& numbers = by_space[static_cast<int>(Space::kHead)];
  int number = numbers.empty() ? -1 : product(numbers);
  if (number >= 0 && values_.is_constant(number, 1)) number = -1;
  for (Space space : {Space::kQuery, Space::kKey, Space::kDiagonal}) {
    std::vector<int>& group = by_space[static_cast<int>(space)];
    if (group.empty()) continue;
    if (number >= 0) group.push_back(std::exchange(number, -1));
    terms.push_back(product(group));
  }
  if (number >= 0) terms.push_back(number);
  const int last = terms.back();
  terms.pop_back();
  values_.items[root] = terms.empty() ? values_.operation(Code::kCopy, {last})
                                      : values_.operation(Code::kMul, {product(terms), last});
}

void Fusion::gather_factors() {
  count();
  gathered_.assign(values_.size(), false);
  for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
    const Value& value = values_.items[*at];
    const bool product = value.code == Code::kMul || value.code == Code::kNeg;
    if (!product || value.space != Space::kPair || exact_[*at] || gathered_[*at]) continue;
    const std::vector<int> factors = factors_of(*at);
    const auto small = std::count_if(factors.begin(), factors.end(), [&](int factor) {
      return values_.items[factor].space != Space::kPair;
    });
    if (small > 1) rebuild_product(*at, factors);
  }
}

std::optional<Value> Fusion::only_product(int value, Space space) const {
  const Value& v = values_.items[value];
  if (v.code == Code::kMul && v.space == space && uses_[value] == 1) return v;
  return std::nullopt;
}

// a * b + c in one step, unless the product varies with less and is made once, or serves others.
void Fusion::fuse_sums() {
  count();
  for (int i : order_) {
    Value& v = values_.items[i];
    if (v.code != Code::kAdd && v.code != Code::kSub) continue;
    const bool add = v.code == Code::kAdd;
    if (const auto right = only_product(v.args[1], v.space)) {
      v.code = add ? Code::kMulAdd : Code::kNegMulAdd;
      v.args = {right->args[0], right->args[1], v.args[0]};
    } else if (const auto left = only_product(v.args[0], v.space)) {
      v.code = add ? Code::kMulAdd : Code::kMulSub;
      v.args = {left->args[0], left->args[1], v.args[1]};
    }
  }
}

// x of a product of x and a number of the head, and the number.
std::optional<std::pair<int, int>> Fusion::scaled(const Value& product) const {
  for (int n : {0, 1}) {
    const int x = product.args[n], number = product.args[1 - n];
    if (values_.items[number].space == Space::kHead) return std::pair(x, number);
  }
  return std::nullopt;
}

// c tanh(a b), the soft cap, in one pass.
void Fusion::fuse_tanh() {
  count();
  const int one = values_.append(Values::constant(1));
  for (int i : order_) {
    Value& v = values_.items[i];
    if (v.code != Code::kTanh || v.space != Space::kPair) continue;
    const auto product = only_product(v.args[0], Space::kPair);
    const auto inner = product ? scaled(*product) : std::nullopt;
    v.code = Code::kScaledTanh;
    v.args = inner ? std::array{inner->first, inner->second, one} : std::array{v.args[0], one, one};
  }
  for (int i : order_) {
    Value& v = values_.items[i];
    if (v.code != Code::kMul || v.space != Space::kPair) continue;
    const auto outer = scaled(v);
    if (!outer || uses_[outer->first] != 1) continue;
    const Value& u = values_.items[outer->first];
    if (u.code == Code::kScaledTanh)
      v = {.code = u.code, .space = v.space, .args = {u.args[0], u.args[1], outer->second}};
  }
}

void Fusion::fuse_weights() {
  count();
  for (int i : order_) {
    Value& v = values_.items[i];
    if (v.code != Code::kWeighted) continue;
    const auto product = only_product(v.args[0], Space::kPair);
    if (!product) continue;
    v.code = Code::kWeightedMul;
    v.args = {product->args[0], product->args[1], v.args[1]};
  }
}

}  // namespace

void fuse(Values& values) {
  Fusion fusion(values);
  fusion.divide_by_inverses();
  fusion.gather_factors();
  fusion.fuse_sums();
  fusion.fuse_tanh();
  fusion.fuse_weights();
}

}  // namespace heed::program
