// Algebra on programs: what an operation is equal to, if to something simpler.
#include "heed/core/program/simplify.h"

#include <cmath>

#include "heed/core/program/integer_sum.h"
#include "heed/core/program/operation.h"

namespace heed::program {
namespace {

// Kernels compute in float: factors are joined only where that is far from its ends.
bool is_moderate(double factor) { return std::abs(factor) > 1e-30 && std::abs(factor) < 1e30; }

bool is_power_of_two(double factor) {
  int exponent;
  return std::abs(std::frexp(factor, &exponent)) == 0.5;
}

class Simplifier {
 public:
  Simplifier(Graph& graph, Op op, Type type, const std::vector<int>& args)
      : graph_(graph), op_(op), type_(type), args_(args) {}
  int run();

 private:
  bool is(int node, Op op) const { return graph_[node].op == op; }
  bool is(int node, double value) const {
    return is(node, Op::kConstant) && graph_[node].value == value;
  }
  bool is_negative(int node) const { return is(node, Op::kConstant) && graph_[node].value < 0; }
  bool is_negative_multiple(int node) const {
    return is(node, Op::kMul) && is_negative(arg(node, 0));
  }
  bool is_not(int node, int other) const { return is(node, Op::kNot) && arg(node, 0) == other; }
  // Whether x * factor may be rounded in another place.
  bool may_scale(int x, double factor) const {
    return is_moderate(factor) && (is_power_of_two(factor) || graph_.reads_dot(x));
  }
  int arg(int node, int i) const { return graph_[node].args[i]; }
  double value(int node) const { return graph_[node].value; }
  int number(double value) { return graph_.constant(value, type_); }
  int boolean(bool value) { return graph_.constant(value, Type::kBool); }
  int add(Op op, std::vector<int> args) { return graph_.add(op, std::move(args)); }
  int neg(int node) { return add(Op::kNeg, {node}); }
  int just(int node) { return graph_.cast(node, type_); }  // the node in the operation's type

  int integer_sum();
  int negation(int x);
  int absolute(int x);
  int sum(int x, int y);
  int difference(int x, int y);
  int product(int x, int y);
  int multiple(int constant, int x);
  int quotient(int x, int y);
  int floor_quotient(int x, int y);
  int power(int x, int y);
  int comparison(int x, int y);
  int inverse(int x);
  int logic(int x, int y);
  int choice(int condition, int x, int y);

  Graph& graph_;
  const Op op_;
  const Type type_;
  const std::vector<int>& args_;
};

int Simplifier::integer_sum() {
  IntegerSum sum;
  const int x = args_[0], y = args_.back();
  bool fits = false;
  if (op_ == Op::kNeg) {
    fits = sum.add(graph_, x, -1);
  } else if (op_ == Op::kAdd || op_ == Op::kSub) {
    fits = sum.add(graph_, x, 1) && sum.add(graph_, y, op_ == Op::kAdd ? 1 : -1);
  } else if (op_ == Op::kMul && is(x, Op::kConstant)) {
    fits = value(x) == 0 || sum.add(graph_, y, value(x));
  }
  return fits ? add_sum(graph_, std::move(sum)) : -1;
}

int Simplifier::negation(int x) {
  if (is(x, Op::kNeg)) return just(arg(x, 0));
  if (is(x, Op::kSub)) return add(Op::kSub, {arg(x, 1), arg(x, 0)});
  if (is(x, Op::kMul) && is(arg(x, 0), Op::kConstant)) {
    const int factor = number(-value(arg(x, 0)));
    return add(Op::kMul, {factor, arg(x, 1)});
  }
  return -1;
}

int Simplifier::absolute(int x) {
  if (graph_[x].type == Type::kBool) return just(x);
  if (is(x, Op::kAbs)) return x;
  if (is(x, Op::kNeg)) return add(Op::kAbs, {arg(x, 0)});
  return -1;
}

int Simplifier::sum(int x, int y) {
  if (is(y, 0.0)) return just(x);
  if (x == y) return add(Op::kMul, {number(2), x});
  if (is(y, Op::kNeg)) return add(Op::kSub, {x, arg(y, 0)});
  if (is(x, Op::kNeg)) return add(Op::kSub, {y, arg(x, 0)});
  if (is_negative(y) || is_negative_multiple(y)) return add(Op::kSub, {x, neg(y)});
  if (is_negative_multiple(x)) return add(Op::kSub, {y, neg(x)});
  return -1;
}

int Simplifier::difference(int x, int y) {
  if (is(y, 0.0)) return just(x);
  if (is(x, 0.0)) return just(neg(y));
  if (is(y, Op::kNeg)) return add(Op::kAdd, {x, arg(y, 0)});
  if (is_negative(y) || is_negative_multiple(y)) return add(Op::kAdd, {x, neg(y)});
  return -1;
}

int Simplifier::product(int x, int y) {
  if (is(x, Op::kConstant)) return multiple(x, y);
  if (is(x, Op::kNeg)) return neg(add(Op::kMul, {arg(x, 0), y}));
  if (is(y, Op::kNeg)) return neg(add(Op::kMul, {x, arg(y, 0)}));
  return -1;
}

int Simplifier::multiple(int constant, int x) {
  const double factor = value(constant);
  if (factor == 1) return just(x);
  if (factor == -1) return neg(just(x));
  if (is(x, Op::kNeg)) return add(Op::kMul, {number(-factor), arg(x, 0)});
  if (is(x, Op::kMul) && is(arg(x, 0), Op::kConstant)) {
    const double both = factor * value(arg(x, 0));
    if (is_moderate(both) && (may_scale(x, factor) || may_scale(x, value(arg(x, 0)))))
      return add(Op::kMul, {number(both), arg(x, 1)});
  }
  return -1;
}

int Simplifier::quotient(int x, int y) {
  if (is(y, Op::kConstant) && may_scale(x, value(y))) {
    return add(Op::kMul, {number(1 / value(y)), x});
  }
  if (is(x, Op::kNeg)) return neg(add(Op::kDiv, {arg(x, 0), y}));
  if (is(y, Op::kNeg)) return neg(add(Op::kDiv, {x, arg(y, 0)}));
  return -1;
}

int Simplifier::floor_quotient(int x, int y) {
  if (!is(y, 1.0)) return -1;
  return type_ == Type::kFloat ? add(Op::kFloor, {x}) : just(x);
}

int Simplifier::power(int x, int y) {
  if (!is(y, Op::kConstant)) return -1;
  const double exponent = value(y);
  if (exponent == 0) return number(1);
  if (exponent == 1) return just(x);
  if (exponent == -1) return add(Op::kDiv, {number(1), x});
  if (exponent != 2 && exponent != 3) return -1;
  x = just(x);
  const int square = add(Op::kMul, {x, x});
  return exponent == 2 ? square : add(Op::kMul, {square, x});
}

// Of integers that differ by a constant.
int Simplifier::comparison(int x, int y) {
  if (graph_[x].type == Type::kFloat || graph_[y].type == Type::kFloat) return -1;
  IntegerSum difference;
  if (!difference.add(graph_, x, 1) || !difference.add(graph_, y, -1)) return -1;
  if (!difference.terms.empty()) return -1;
  const double sides[] = {difference.constant, 0};
  return boolean(apply(op_, type_, sides) != 0);
}

int Simplifier::inverse(int x) {
  if (is(x, Op::kNot)) return arg(x, 0);
  if (is(x, Op::kEqual)) return add(Op::kNotEqual, {arg(x, 0), arg(x, 1)});
  if (is(x, Op::kNotEqual)) return add(Op::kEqual, {arg(x, 0), arg(x, 1)});
  const bool less = is(x, Op::kLess);
  if (!less && !is(x, Op::kLessEqual)) return -1;
  const int left = arg(x, 0), right = arg(x, 1);
  const bool maybe_nan = graph_[left].type == Type::kFloat || graph_[right].type == Type::kFloat;
  return maybe_nan ? -1 : add(less ? Op::kLessEqual : Op::kLess, {right, left});
}

int Simplifier::logic(int x, int y) {
  const bool neutral = op_ == Op::kAnd;
  if (is(y, Op::kConstant)) return (value(y) != 0) == neutral ? x : y;
  if (x == y) return x;
  if (is_not(x, y) || is_not(y, x) || add(Op::kNot, {x}) == y) return boolean(!neutral);
  return -1;
}

int Simplifier::choice(int condition, int x, int y) {
  if (is(condition, Op::kConstant)) return just(value(condition) != 0 ? x : y);
  if (x == y) return just(x);
  if (is(condition, Op::kNot)) return add(Op::kWhere, {arg(condition, 0), y, x});
  if (is(x, 1.0) && is(y, 0.0)) return just(condition);
  if (is(x, 0.0) && is(y, 1.0)) return just(add(Op::kNot, {condition}));
  // just(): the branch taken may be what gives the choice its type.
  if (is(x, Op::kWhere) && arg(x, 0) == condition) {
    return just(add(Op::kWhere, {condition, arg(x, 1), y}));
  }
  if (is(y, Op::kWhere) && arg(y, 0) == condition) {
    return just(add(Op::kWhere, {condition, x, arg(y, 2)}));
  }
  return -1;
}

int Simplifier::run() {
  const int x = args_[0], y = args_.back();
  if (type_ == Type::kInt) {
    const int sum = integer_sum();
    if (sum >= 0) return sum;
  }
  switch (op_) {
    case Op::kNeg:
      return negation(x);
    case Op::kAbs:
      return absolute(x);
    case Op::kFloor:
      return graph_[x].type != Type::kFloat ? just(x) : is(x, Op::kFloor) ? x : -1;
    case Op::kNot:
      return inverse(x);
    case Op::kAdd:
      return sum(x, y);
    case Op::kSub:
      return difference(x, y);
    case Op::kMul:
      return product(x, y);
    case Op::kDiv:
      return quotient(x, y);
    case Op::kFloorDiv:
      return floor_quotient(x, y);
    case Op::kPow:
      return power(x, y);
    case Op::kMin:
    case Op::kMax:
      return x == y ? just(x) : -1;
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kEqual:
    case Op::kNotEqual:
      return comparison(x, y);
    case Op::kAnd:
    case Op::kOr:
      return logic(x, y);
    case Op::kWhere:
      return choice(x, args_[1], y);
    default:
      return -1;
  }
}

}  // namespace

int fold(Graph& graph, Op op, Type type, const std::vector<int>& args) {
  double values[3];
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (graph[args[i]].op != Op::kConstant) return -1;
    values[i] = graph[args[i]].value;
  }
  const bool divides = op == Op::kDiv || op == Op::kFloorDiv || op == Op::kMod;
  if (divides && values[1] == 0) return -1;
  const double result = apply(op, type, values);
  if (std::isnan(result)) return -1;
  const bool is_exact = std::abs(result) <= static_cast<double>(int64_t{1} << 53);
  if (type == Type::kInt && !is_exact) return -1;
  return graph.constant(result, type);
}

int simplify(Graph& graph, Op op, Type type, const std::vector<int>& args) {
  return Simplifier(graph, op, type, args).run();
}

}  // namespace heed::program
