// The derivative of a score by dot and by the tables, in reverse mode.
#include "heed/core/program/derivative.h"

#include <utility>

namespace heed::program {
namespace {

// d loss / d node: `value` where `guard` holds, 0 elsewhere. Products with local derivatives are
// taken of the value alone, and what they give outside of the guard is never read.
struct Adjoint {
  int value = -1;  // -1: 0 everywhere
  int guard = -1;  // -1: everywhere
};

class Reverse {
 public:
  Reverse(Graph& graph, int score)
      : graph_(graph), score_(score), active_(score + 1), adjoints_(score + 1) {}
  Derivative run();

 private:
  void find_active();
  void step(int id);
  void unary(const Node& node, int out, Adjoint d);
  void binary(const Node& node, int out, Adjoint d);
  void choice(const Node& node, Adjoint d);
  void extreme(const Node& node, Adjoint d);
  void power(const Node& node, int out, Adjoint d);

  void pass(int arg, Adjoint part);
  void pass(int arg, Adjoint d, int value) { pass(arg, {value, d.guard}); }
  Adjoint merge(Adjoint x, Adjoint y);
  int closed(Adjoint adjoint);
  Adjoint guarded(Adjoint adjoint, int guard);

  int add(Op op, std::vector<int> args) { return graph_.add(op, std::move(args)); }
  int neg(int x) { return add(Op::kNeg, {x}); }
  int mul(int x, int y) { return add(Op::kMul, {x, y}); }
  int div(int x, int y) { return add(Op::kDiv, {x, y}); }
  int sub(int x, int y) { return add(Op::kSub, {x, y}); }
  int where(int c, int x, int y) { return add(Op::kWhere, {c, x, y}); }
  int number(double value) { return graph_.constant(value, Type::kFloat); }

  Graph& graph_;
  const int score_;
  std::vector<bool> active_;  // depends on dot or a float table, with a derivative
  std::vector<Adjoint> adjoints_;
};

void Reverse::find_active() {
  for (int id = 0; id <= score_; ++id) {
    const Node& node = graph_[id];
    if (node.type != Type::kFloat || node.op == Op::kFloor || node.op == Op::kFloorDiv) continue;
    bool active = node.op == Op::kDot || node.op == Op::kLookup;
    if (node.op != Op::kLookup) {
      for (const int arg : node.args) active = active || active_[arg];
    }
    active_[id] = active;
  }
}

int Reverse::closed(Adjoint adjoint) {
  return adjoint.guard < 0 ? adjoint.value : where(adjoint.guard, adjoint.value, number(0));
}

Adjoint Reverse::guarded(Adjoint adjoint, int guard) {
  return {adjoint.value, adjoint.guard < 0 ? guard : add(Op::kAnd, {adjoint.guard, guard})};
}

Adjoint Reverse::merge(Adjoint x, Adjoint y) {
  if (x.value < 0) return y;
  if (x.guard == y.guard) return {add(Op::kAdd, {x.value, y.value}), x.guard};
  int either = -1;
  if (x.guard >= 0 && y.guard >= 0) {
    if (add(Op::kNot, {x.guard}) == y.guard) return {where(x.guard, x.value, y.value)};
    either = add(Op::kOr, {x.guard, y.guard});
  }
  return {add(Op::kAdd, {closed(x), closed(y)}), either};
}

void Reverse::pass(int arg, Adjoint part) {
  if (active_[arg]) adjoints_[arg] = merge(adjoints_[arg], part);
}

void Reverse::unary(const Node& node, int out, Adjoint d) {
  const int x = node.args[0];
  switch (node.op) {
    case Op::kNeg:
      return pass(x, d, neg(d.value));
    case Op::kAbs: {  // 0 at 0
      const int at_zero = add(Op::kEqual, {x, number(0)});
      const int upward = where(at_zero, number(0), d.value);
      return pass(x, d, where(add(Op::kLess, {x, number(0)}), neg(d.value), upward));
    }
    case Op::kExp:
      return pass(x, d, mul(d.value, out));
    case Op::kLog:
      return pass(x, d, div(d.value, x));
    case Op::kTanh:
      return pass(x, d, mul(d.value, sub(number(1), mul(out, out))));
    case Op::kSigmoid:
      return pass(x, d, mul(d.value, mul(out, sub(number(1), out))));
    case Op::kSqrt:
      return pass(x, d, div(mul(number(0.5), d.value), out));
    default:
      return;  // flat
  }
}

// Ties give half to each. A NaN is passed on to both.
void Reverse::extreme(const Node& node, Adjoint d) {
  const int x = node.args[0], y = node.args[1];
  const int x_less = add(Op::kLess, {x, y}), y_less = add(Op::kLess, {y, x});
  const int half = mul(number(0.5), d.value);
  const int value = where(add(Op::kEqual, {x, y}), half, d.value);
  const bool is_min = node.op == Op::kMin;
  pass(x, guarded({value, d.guard}, add(Op::kNot, {is_min ? y_less : x_less})));
  pass(y, guarded({value, d.guard}, add(Op::kNot, {is_min ? x_less : y_less})));
}

void Reverse::power(const Node& node, int out, Adjoint d) {
  const int x = node.args[0], y = node.args[1];
  const int zero = number(0);
  if (active_[x]) {
    const int slope = mul(y, add(Op::kPow, {x, sub(y, number(1))}));
    pass(x, d, where(add(Op::kEqual, {y, zero}), zero, mul(d.value, slope)));
  }
  if (active_[y]) {
    const int slope = mul(out, add(Op::kLog, {x}));
    const int x_zero = add(Op::kEqual, {x, zero});
    const int flat = add(Op::kAnd, {x_zero, add(Op::kLessEqual, {zero, y})});
    pass(y, d, where(flat, zero, mul(d.value, slope)));
  }
}

void Reverse::binary(const Node& node, int out, Adjoint d) {
  const int x = node.args[0], y = node.args[1];
  switch (node.op) {
    case Op::kAdd:
    case Op::kSub:
      pass(x, d);
      return pass(y, d, node.op == Op::kAdd ? d.value : neg(d.value));
    case Op::kMul:
      pass(x, d, mul(d.value, y));
      return pass(y, d, mul(d.value, x));
    case Op::kDiv: {
      const int slope = div(d.value, y);
      pass(x, d, slope);
      return pass(y, d, neg(mul(slope, out)));
    }
    case Op::kMod:
      pass(x, d);
      return pass(y, d, neg(mul(d.value, add(Op::kFloorDiv, {x, y}))));
    case Op::kPow:
      return power(node, out, d);
    case Op::kMin:
    case Op::kMax:
      return extreme(node, d);
    default:
      return;
  }
}

void Reverse::choice(const Node& node, Adjoint d) {
  const int condition = node.args[0];
  pass(node.args[1], guarded(d, condition));
  pass(node.args[2], guarded(d, add(Op::kNot, {condition})));
}

void Reverse::step(int id) {
  const Node node = graph_[id];  // a copy: adding moves nodes
  const Adjoint d = adjoints_[id];
  if (node.op == Op::kWhere) return choice(node, d);
  if (node.args.size() == 1) return unary(node, id, d);
  if (node.args.size() == 2) return binary(node, id, d);
}

Derivative Reverse::run() {
  find_active();
  Derivative derivative;
  if (active_[score_]) adjoints_[score_].value = graph_.leaf(Op::kGradient);
  for (int id = score_; id >= 0; --id) {
    if (adjoints_[id].value < 0) continue;
    const Op op = graph_[id].op;
    if (op == Op::kDot) {
      derivative.d_dot = closed(adjoints_[id]);
    } else if (op == Op::kLookup) {
      derivative.tables.push_back({id, closed(adjoints_[id])});
    } else {
      step(id);
    }
  }
  return {derivative.d_dot, {derivative.tables.rbegin(), derivative.tables.rend()}};
}

}  // namespace

Derivative differentiate(Graph& graph, int score) { return Reverse(graph, score).run(); }

}  // namespace heed::program
