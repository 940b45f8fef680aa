// The graph of a program: types, one node for equal nodes, and an order by structure.
#include "heed/core/program/graph.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "heed/core/program/operation.h"
#include "heed/core/program/simplify.h"

namespace heed::program {
namespace {

bool is_comparison(Op op) {
  return op == Op::kLess || op == Op::kLessEqual || op == Op::kEqual || op == Op::kNotEqual;
}

bool is_logic(Op op) { return op == Op::kNot || op == Op::kAnd || op == Op::kOr; }

bool is_commutative(Op op) {
  return op == Op::kAdd || op == Op::kMul || op == Op::kMin || op == Op::kMax || op == Op::kEqual ||
         op == Op::kNotEqual || op == Op::kAnd || op == Op::kOr;
}

bool is_integral(double value) { return std::isfinite(value) && value == std::trunc(value); }

[[noreturn]] void fail(const std::string& name, const std::string& expected,
                       const std::string& got) {
  throw ProgramError("operation " + name + ": expected " + expected + ", got " + got);
}

std::string types_of(const Graph& graph, const std::vector<int>& args) {
  std::string types;
  for (const int arg : args) {
    types += (types.empty() ? "" : ", ") + std::string(name_of(graph[arg].type));
  }
  return types;
}

void check_arity(Op op, std::size_t count) {
  const Operation& known = operation(op);
  if (known.arity == 0 || op == Op::kCast) {
    throw ProgramError("operation " + std::string(known.name) + ": not one of add()'s");
  }
  if (count != static_cast<std::size_t>(known.arity)) {
    const std::string plural = known.arity == 1 ? " argument" : " arguments";
    fail(known.name, std::to_string(known.arity) + plural, std::to_string(count));
  }
}

void check_types(const Graph& graph, Op op, const std::vector<int>& args) {
  const auto is_bool = [&](int arg) { return graph[arg].type == Type::kBool; };
  const bool right = is_logic(op)       ? std::all_of(args.begin(), args.end(), is_bool)
                     : op == Op::kWhere ? is_bool(args[0])
                                        : true;
  if (right) return;
  const char* expected = op == Op::kWhere ? "a bool condition and two values"
                         : op == Op::kNot ? "bool"
                                          : "bool, bool";
  fail(operation(op).name, expected, types_of(graph, args));
}

// Integers have integer powers where the exponent is known not to be negative.
Type power_type(const Node& base, const Node& exponent) {
  const bool ints = std::max(base.type, exponent.type) < Type::kFloat;
  const bool known = exponent.op == Op::kConstant && exponent.value >= 0;
  return ints && known ? Type::kInt : Type::kFloat;
}

Type result_type(const Graph& graph, Op op, const std::vector<int>& args) {
  if (is_comparison(op) || is_logic(op)) return Type::kBool;
  const Node& first = graph[args[0]];
  const Node& last = graph[args.back()];
  switch (op) {
    case Op::kNeg:
    case Op::kAbs:
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kFloorDiv:
    case Op::kMod:
      return std::max({Type::kInt, first.type, last.type});
    case Op::kMin:
    case Op::kMax:
      return std::max(first.type, last.type);
    case Op::kWhere:
      return std::max(graph[args[1]].type, last.type);
    case Op::kPow:
      return power_type(first, last);
    default:
      return Type::kFloat;
  }
}

bool is_upward_cast(const Graph& graph, int node) {
  return graph[node].op == Op::kCast && graph[graph[node].args[0]].type < graph[node].type;
}

// The node without the casts upwards around it: the same number.
int uncast(const Graph& graph, int node) {
  return is_upward_cast(graph, node) ? graph[node].args[0] : node;
}

// The type in which a constant argument is written, so that dot + 1 and dot + 1.0 are one node.
Type constant_type(const Graph& graph, Op op, Type type, const std::vector<int>& args,
                   std::size_t i) {
  const Node& constant = graph[args[i]];
  if (is_comparison(op)) {
    const Type other = graph[uncast(graph, args[1 - i])].type;
    if (other == Type::kFloat) return Type::kFloat;
    return other == Type::kInt && is_integral(constant.value) ? Type::kInt : constant.type;
  }
  if (is_logic(op) || (op == Op::kWhere && i == 0)) return constant.type;
  return std::max(type, constant.type);
}

void type_constants(Graph& graph, Op op, Type type, std::vector<int>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (graph[args[i]].op != Op::kConstant) continue;
    args[i] = graph.cast(args[i], constant_type(graph, op, type, args, i));
  }
}

// Constants stand before what they multiply and behind everything else.
void order_arguments(const Graph& graph, Op op, std::vector<int>& args) {
  if (!is_commutative(op)) return;
  const bool first = graph[args[0]].op == Op::kConstant;
  const bool second = graph[args[1]].op == Op::kConstant;
  const bool exchange =
      first != second ? first == (op != Op::kMul) : graph.precedes(args[1], args[0]);
  if (exchange) std::swap(args[0], args[1]);
}

// One form of the arguments: the first alone is cast, where the operation would else be of another
// type.
void bring_in_order(Graph& graph, Op op, Type type, std::vector<int>& args) {
  type_constants(graph, op, type, args);
  for (int& arg : args) arg = uncast(graph, arg);
  order_arguments(graph, op, args);
  if (result_type(graph, op, args) == type) return;
  int& first = args[op == Op::kWhere ? 1 : 0];
  first = graph.cast(first, type);
}

uint64_t bits_of(double value) { return std::bit_cast<uint64_t>(value); }

bool is_same(const Node& a, const Node& b) {
  return a.op == b.op && a.type == b.type && bits_of(a.value) == bits_of(b.value) &&
         a.table == b.table && a.args == b.args;
}

std::size_t hash_of(const Node& node) {
  uint64_t hash = static_cast<uint64_t>(node.op) * 4 + static_cast<uint64_t>(node.type);
  const auto mix = [&](uint64_t x) {
    hash = (hash ^ x) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  };
  mix(bits_of(node.value));
  mix(static_cast<uint64_t>(node.table));
  for (const int arg : node.args) mix(static_cast<uint64_t>(arg));
  return hash;
}

}  // namespace

int Graph::add(Op op, std::vector<int> args) {
  check_arity(op, args.size());
  check_types(*this, op, args);
  const Type type = result_type(*this, op, args);
  bring_in_order(*this, op, type, args);
  const int folded = fold(*this, op, type, args);
  if (folded >= 0) return folded;
  const int simpler = simplify(*this, op, type, args);
  if (simpler >= 0) return simpler;
  return find_or_add({.op = op, .type = type, .args = std::move(args)});
}

int Graph::constant(double value, Type type) {
  if (type == Type::kBool) value = value != 0;
  if (type == Type::kInt) {
    if (!is_integral(value)) fail("int", "a whole number", std::to_string(value));
    value += 0.0;  // no -0
  }
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
  return find_or_add({.op = Op::kConstant, .type = type, .value = value});
}

int Graph::leaf(Op op) {
  const bool is_float = op == Op::kDot || op == Op::kGradient;
  return find_or_add({.op = op, .type = is_float ? Type::kFloat : Type::kInt});
}

int Graph::lookup(int table, Type type, std::vector<int> indices) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const Type got = nodes_[indices[i]].type;
    if (got == Type::kInt) continue;
    throw ProgramError("index " + std::to_string(i) + " of table" + std::to_string(table) +
                       ": expected int, got " + name_of(got));
  }
  return find_or_add({.op = Op::kLookup, .type = type, .table = table, .args = std::move(indices)});
}

int Graph::cast(int node, Type type) {
  if (nodes_[node].type == type) return node;
  if (is_upward_cast(*this, node)) return cast(nodes_[node].args[0], type);
  if (type == Type::kBool) return add(Op::kNotEqual, {node, constant(0, nodes_[node].type)});
  const int folded = fold(*this, Op::kCast, type, {node});
  if (folded >= 0) return folded;
  return find_or_add({.op = Op::kCast, .type = type, .args = {node}});
}

int Graph::find_or_add(Node node) {
  const std::size_t hash = hash_of(node);
  const auto [begin, end] = known_.equal_range(hash);
  for (auto known = begin; known != end; ++known) {
    if (is_same(nodes_[known->second], node)) return known->second;
  }
  return append(std::move(node), hash);
}

int Graph::append(Node node, std::size_t hash) {
  known_.emplace(hash, size());
  bool reads_dot = node.op == Op::kDot;
  for (const int arg : node.args) reads_dot = reads_dot || reads_dot_[arg];
  reads_dot_.push_back(reads_dot);
  nodes_.push_back(std::move(node));
  return size() - 1;
}

bool Graph::precedes(int a, int b) const {
  while (a != b) {
    const Node& x = nodes_[a];
    const Node& y = nodes_[b];
    const auto own = [](const Node& node) {
      return std::tuple(node.op, node.type, node.table, node.args.size());
    };
    if (own(x) != own(y)) return own(x) < own(y);
    if (bits_of(x.value) != bits_of(y.value)) {
      return x.value != y.value ? x.value < y.value : bits_of(x.value) < bits_of(y.value);
    }
    // Equal nodes are one, so the first arguments that differ decide: no branching.
    const auto [left, right] = std::mismatch(x.args.begin(), x.args.end(), y.args.begin());
    a = *left;
    b = *right;
  }
  return false;
}

void Graph::prune(const std::vector<int*>& roots) {
  Graph kept;
  std::vector<int> renumbered(nodes_.size(), -1);
  for (int* root : roots) {
    if (*root < 0) continue;
    std::vector<int> pending = {*root};
    while (!pending.empty()) {
      const int id = pending.back();
      const std::vector<int>& args = nodes_[id].args;
      const std::size_t before = pending.size();
      if (renumbered[id] < 0) {
        for (auto arg = args.rbegin(); arg != args.rend(); ++arg) {
          if (renumbered[*arg] < 0) pending.push_back(*arg);
        }
      }
      if (pending.size() != before) continue;
      pending.pop_back();
      if (renumbered[id] >= 0) continue;
      Node node = std::move(nodes_[id]);
      for (int& arg : node.args) arg = renumbered[arg];
      const std::size_t hash = hash_of(node);
      renumbered[id] = kept.append(std::move(node), hash);
    }
    *root = renumbered[*root];
  }
  *this = std::move(kept);
}

}  // namespace heed::program
