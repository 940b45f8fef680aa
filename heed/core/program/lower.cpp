// Lowers nodes in the graph's order.
#include "heed/core/program/lower.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <unordered_map>
#include <utility>

namespace heed::program {
namespace {

// query * t + key * s + a number of the head.
struct Affine {
  int64_t query = 0, key = 0;
  int offset = -1;  // a value, or -1: 0
};

Space space_of(int64_t query, int64_t key) {
  if (query == 0 && key == 0) return Space::kHead;
  if (key == 0) return Space::kQuery;
  if (query == 0) return Space::kKey;
  return query == -key ? Space::kDiagonal : Space::kPair;
}

bool is_empty(const TableView& view) {
  return std::find(view.sizes.begin(), view.sizes.end(), 0) != view.sizes.end();
}

// Operations that are one instruction of the same arguments.
std::optional<Code> code_of(Op op) {
  switch (op) {
    case Op::kBatch:
      return Code::kBatch;
    case Op::kHead:
      return Code::kHead;
    case Op::kNeg:
      return Code::kNeg;
    case Op::kAbs:
      return Code::kAbs;
    case Op::kExp:
      return Code::kExp;
    case Op::kLog:
      return Code::kLog;
    case Op::kTanh:
      return Code::kTanh;
    case Op::kSigmoid:
      return Code::kSigmoid;
    case Op::kSqrt:
      return Code::kSqrt;
    case Op::kFloor:
      return Code::kFloor;
    case Op::kNot:
      return Code::kNot;
    case Op::kAdd:
      return Code::kAdd;
    case Op::kSub:
      return Code::kSub;
    case Op::kMul:
      return Code::kMul;
    case Op::kDiv:
      return Code::kDiv;
    case Op::kFloorDiv:
      return Code::kFloorDiv;
    case Op::kMod:
      return Code::kMod;
    case Op::kPow:
      return Code::kPow;
    case Op::kMin:
      return Code::kMin;
    case Op::kMax:
      return Code::kMax;
    case Op::kLess:
      return Code::kLess;
    case Op::kLessEqual:
      return Code::kLessEqual;
    case Op::kEqual:
      return Code::kEqual;
    case Op::kNotEqual:
      return Code::kNotEqual;
    case Op::kAnd:
      return Code::kAnd;
    case Op::kOr:
      return Code::kOr;
    case Op::kWhere:
      return Code::kWhere;
    default:
      return std::nullopt;
  }
}

class Lowering {
 public:
  explicit Lowering(const CompileInputs& inputs) : inputs_(inputs) {}

  // The value of a node; nodes that it needs have values after this, too.
  int value(int root);

  void score();
  void mask();
  void gradient();

  Values values;

 private:
  int emit(Code code, std::initializer_list<int> args) {
    return values.add(values.operation(code, args));
  }
  int constant(double x) { return values.add(Values::constant(x)); }

  void lower(int node);
  int lower_operation(const Node& node, const std::vector<int>& args);
  int lower_cast(const Node& node, int arg);
  int lower_power(int x, int y);

  std::optional<Affine> affine_of(int node) const;
  std::optional<Affine> sum(const Affine& a, const Affine& b, int64_t sign);
  std::optional<Affine> multiple(int factor, int node);
  std::optional<Affine> lower_affine(const Node& node);

  int address(int node, const std::vector<int64_t>& strides, const Lookup& lookup);
  int read(int node);
  int mask_where(int condition);
  void put_result(Value value, int slot);

  const CompileInputs& inputs_;
  std::unordered_map<int, int> of_node_;
  std::unordered_map<int, Affine> affine_of_node_;
};

std::optional<Affine> Lowering::affine_of(int node) const {
  const auto at = affine_of_node_.find(node);
  return at == affine_of_node_.end() ? std::nullopt : std::optional(at->second);
}

// None where coefficients become more than floats can hold.
std::optional<Affine> Lowering::sum(const Affine& a, const Affine& b, int64_t sign) {
  constexpr int64_t kMost = int64_t{1} << 24;
  Affine r = {a.query + sign * b.query, a.key + sign * b.key, a.offset};
  if (std::abs(r.query) > kMost || std::abs(r.key) > kMost) return std::nullopt;
  if (b.offset < 0) return r;
  if (r.offset < 0) {
    r.offset = sign > 0 ? b.offset : emit(Code::kNeg, {b.offset});
  } else {
    r.offset = emit(sign > 0 ? Code::kAdd : Code::kSub, {r.offset, b.offset});
  }
  return r;
}

std::optional<Affine> Lowering::multiple(int factor, int node) {
  const Node& by = inputs_.graph[factor];
  if (by.op != Op::kConstant || std::abs(by.value) > 1 << 24) return std::nullopt;
  const auto a = affine_of(node);
  const auto n = static_cast<int64_t>(by.value);
  const int offset = a->offset < 0 ? -1 : emit(Code::kMul, {a->offset, of_node_.at(factor)});
  return sum({a->query * n, a->key * n, offset}, {}, 1);
}

// Arguments have values already.
std::optional<Affine> Lowering::lower_affine(const Node& node) {
  if (node.type != Type::kInt) return std::nullopt;
  if (node.op == Op::kQuery) return Affine{.query = 1};
  if (node.op == Op::kKey) return Affine{.key = 1};
  for (int arg : node.args) {
    if (!affine_of(arg)) return std::nullopt;
  }
  const auto of = [&](int i) { return *affine_of(node.args[i]); };
  switch (node.op) {
    case Op::kNeg:
      return sum({}, of(0), -1);
    case Op::kAdd:
      return sum(of(0), of(1), 1);
    case Op::kSub:
      return sum(of(0), of(1), -1);
    case Op::kMul: {
      const auto left = multiple(node.args[0], node.args[1]);
      return left ? left : multiple(node.args[1], node.args[0]);
    }
    default:
      return std::nullopt;
  }
}

// Small exponents by products; else as C's pow.
int Lowering::lower_power(int x, int y) {
  const auto square = [&](int v) { return emit(Code::kMul, {v, v}); };
  const auto inverse = [&](int v) { return emit(Code::kDiv, {constant(1), v}); };
  const auto is = [&](double exponent) { return values.is_constant(y, exponent); };
  if (is(1)) return x;
  if (is(2)) return square(x);
  if (is(3)) return emit(Code::kMul, {square(x), x});
  if (is(4)) return square(square(x));
  if (is(0.5)) return emit(Code::kSqrt, {x});
  if (is(-1)) return inverse(x);
  if (is(-0.5)) return inverse(emit(Code::kSqrt, {x}));
  if (is(-2)) return inverse(square(x));
  return emit(Code::kPow, {x, y});
}

int Lowering::lower_cast(const Node& node, int arg) {
  const Type from = inputs_.graph[node.args[0]].type;
  if (node.type == Type::kBool && from != Type::kBool) return emit(Code::kIsNonzero, {arg});
  if (node.type == Type::kInt && from == Type::kFloat) return emit(Code::kTruncate, {arg});
  return arg;
}

int Lowering::lower_operation(const Node& node, const std::vector<int>& args) {
  if (node.op == Op::kDot) return Values::kDot;
  if (node.op == Op::kGradient) return Values::kGradient;
  if (node.op == Op::kConstant) return constant(node.value);
  if (node.op == Op::kCast) return lower_cast(node, args[0]);
  if (node.op == Op::kPow) return lower_power(args[0], args[1]);
  const std::optional<Code> code = code_of(node.op);
  if (!code) std::abort();  // t, s and lookups are lower()'s
  if (args.empty()) return emit(*code, {});
  if (args.size() == 1) return emit(*code, {args[0]});
  if (args.size() == 2) return emit(*code, {args[0], args[1]});
  return emit(*code, {args[0], args[1], args[2]});
}

// The address of a kLookup's element under these strides: into values.lookups.
int Lowering::address(int node, const std::vector<int64_t>& strides, const Lookup& lookup) {
  const Node& n = inputs_.graph[node];
  const TableView& view = inputs_.tables[n.table];
  LookupValue to = {lookup, {}};
  to.lookup.table = n.table;
  to.lookup.element = view.element;
  int64_t farthest = 0;
  for (size_t d = 0; d < n.args.size(); ++d) {
    if (strides[d] == 0 || view.sizes[d] == 1) continue;  // every index is the same element
    farthest += std::abs(strides[d]) * (view.sizes[d] - 1);
    const auto affine = affine_of(n.args[d]);
    const bool guarded = inputs_.guards[node][d];
    if (affine && !guarded) {
      to.lookup.query += affine->query * strides[d];
      to.lookup.key += affine->key * strides[d];
      if (affine->offset < 0) continue;
      to.indices.push_back({affine->offset, view.sizes[d], strides[d], guarded});
    } else {
      const int index = of_node_.at(n.args[d]);
      to.indices.push_back({index, view.sizes[d], strides[d], guarded});
      to.lookup.space = join(to.lookup.space, values.items[index].space);
    }
  }
  to.lookup.space = join(to.lookup.space, space_of(to.lookup.query, to.lookup.key));
  to.lookup.narrow = farthest < int64_t{1} << 30;
  values.lookups.push_back(std::move(to));
  return static_cast<int>(values.lookups.size()) - 1;
}

int Lowering::read(int node) {
  const TableView& view = inputs_.tables[inputs_.graph[node].table];
  if (is_empty(view)) return constant(0);
  const int lookup = address(node, view.strides, {.data = view.data});
  return values.add(
      {.code = Code::kLookup, .space = values.lookups[lookup].lookup.space, .lookup = lookup});
}

void Lowering::lower(int node) {
  const Node& n = inputs_.graph[node];
  if (const auto affine = lower_affine(n)) {
    affine_of_node_[node] = *affine;
    const int offset = affine->offset < 0 ? constant(0) : affine->offset;
    const Space space = space_of(affine->query, affine->key);
    of_node_[node] = space == Space::kHead ? offset
                                           : values.add({.code = Code::kAffine,
                                                         .space = space,
                                                         .args = {offset, -1, -1},
                                                         .query = affine->query,
                                                         .key = affine->key});
    return;
  }
  std::vector<int> args;
  for (int arg : n.args) args.push_back(of_node_.at(arg));
  const int result = n.op == Op::kLookup ? read(node) : lower_operation(n, args);
  of_node_[node] = result;
  if (n.type == Type::kInt && values.items[result].space == Space::kHead) {
    affine_of_node_[node] = {.offset = result};
  }
}

int Lowering::value(int root) {
  std::vector<bool> wanted(root + 1);
  wanted[root] = true;
  for (int node = root; node >= 0; --node) {
    if (!wanted[node] || of_node_.count(node) != 0) continue;
    for (int arg : inputs_.graph[node].args) wanted[arg] = true;
  }
  for (int node = 0; node <= root; ++node) {
    if (wanted[node] && of_node_.count(node) == 0) lower(node);
  }
  return of_node_.at(root);
}

// What the last value overwrites is done with.
void Lowering::put_result(Value value, int slot) {
  value.space = Space::kPair;
  values.result = values.append(value);
  values.result_slot = slot;
  values.sinks.push_back(values.result);
}

void Lowering::score() {
  const int score = value(inputs_.score);
  const bool made_for_pairs = values.items[score].space == Space::kPair && score != Values::kDot;
  put_result(made_for_pairs ? values.items[score] : values.operation(Code::kCopy, {score}),
             kDotSlot);
}

// Conjunctions mask one after the other, comparisons without a value between.
void Lowering::mask() {
  std::vector<int> open = {value(inputs_.mask)};
  while (!open.empty()) {
    const int condition = open.back();
    const Value value = values.items[condition];
    open.pop_back();
    if (value.space == Space::kPair && value.code == Code::kAnd) {
      open.insert(open.end(), {value.args[1], value.args[0]});
    } else {
      values.sinks.push_back(mask_where(condition));
    }
  }
}

int Lowering::mask_where(int condition) {
  const Value value = values.items[condition];
  const auto compared = [&](Code code) {
    return emit(code, {value.args[0], value.args[1], Values::kDot});
  };
  switch (value.space == Space::kPair ? value.code : Code::kCopy) {
    case Code::kOr:
      return compared(Code::kMaskOr);
    case Code::kLess:
      return compared(Code::kMaskLess);
    case Code::kLessEqual:
      return compared(Code::kMaskLessEqual);
    case Code::kEqual:
      return compared(Code::kMaskEqual);
    case Code::kNotEqual:
      return compared(Code::kMaskNotEqual);
    default:
      return emit(Code::kMaskIf, {condition, Values::kDot});
  }
}

void Lowering::gradient() {
  int32_t output = 0;
  for (const TableGradient& to : inputs_.table_gradients) {
    const TableView& view = inputs_.tables[inputs_.graph[to.lookup].table];
    if (is_empty(view)) continue;
    int addend = value(to.value);
    // The gradient is 0 where the probability is, as it comes.
    if (addend != Values::kGradient) addend = emit(Code::kWeighted, {addend, Values::kWeight});
    value(to.lookup);  // so that its indices have values
    const GradientBlock& block = inputs_.blocks[inputs_.graph[to.lookup].table];
    const int lookup = address(to.lookup, block.strides, {.output = output++});
    values.sinks.push_back(values.append({.code = Code::kAddToTable,
                                          .space = Space::kPair,
                                          .args = {addend, -1, -1},
                                          .lookup = lookup}));
  }
  const int d_dot = inputs_.d_dot < 0 ? constant(0) : value(inputs_.d_dot);
  if (d_dot == Values::kGradient) return;
  put_result(values.operation(Code::kWeighted, {d_dot, Values::kWeight}), kGradientSlot);
}

}  // namespace

Values lower_score(const CompileInputs& inputs) {
  Lowering lowering(inputs);
  lowering.score();
  return std::move(lowering.values);
}

Values lower_mask(const CompileInputs& inputs) {
  Lowering lowering(inputs);
  lowering.mask();
  return std::move(lowering.values);
}

Values lower_gradient(const CompileInputs& inputs) {
  Lowering lowering(inputs);
  lowering.gradient();
  return std::move(lowering.values);
}

}  // namespace heed::program
