// One tensor operation for each of a program's; numbers of every type but bool are `real`, as the
// engine has them.
#include "heed/ops/program_formula.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/index.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include <optional>
#include <utility>

namespace heed {
namespace {

using at::Tensor;
using program::Graph;
using program::Node;
using program::Op;
using program::Type;

Tensor numbers(const Tensor& x, at::ScalarType real) {
  return x.scalar_type() == at::kBool ? x.to(real) : x;
}

Tensor cast(const Tensor& x, Type type) {
  switch (type) {
    case Type::kBool:
      return x.ne(0);
    case Type::kInt:
      return x.trunc();
    case Type::kFloat:
      break;
  }
  return x;
}

Tensor unary(const Node& node, const Tensor& x) {
  switch (node.op) {
    case Op::kNeg:
      return -x;
    case Op::kAbs:
      return x.abs();
    case Op::kExp:
      return x.exp();
    case Op::kLog:
      return x.log();
    case Op::kTanh:
      return x.tanh();
    case Op::kSigmoid:
      return x.sigmoid();
    case Op::kSqrt:
      return x.sqrt();
    case Op::kFloor:
      return x.floor();
    default:
      return cast(x, node.type);
  }
}

Tensor binary(Op op, const Tensor& x, const Tensor& y) {
  switch (op) {
    case Op::kAdd:
      return x + y;
    case Op::kSub:
      return x - y;
    case Op::kMul:
      return x * y;
    case Op::kDiv:
      return x / y;
    case Op::kFloorDiv:
      return (x / y).floor();
    case Op::kMod:
      return x - y * (x / y).floor();
    case Op::kPow:
      return x.pow(y);
    case Op::kMin:
      return at::minimum(x, y);
    case Op::kMax:
      return at::maximum(x, y);
    case Op::kLess:
      return x < y;
    case Op::kLessEqual:
      return x <= y;
    case Op::kEqual:
      return x == y;
    default:
      return x != y;
  }
}

// Of bool arguments; undefined: not one of these.
Tensor logic(Op op, const std::vector<Tensor>& args) {
  switch (op) {
    case Op::kNot:
      return args[0].logical_not();
    case Op::kAnd:
      return args[0].logical_and(args[1]);
    case Op::kOr:
      return args[0].logical_or(args[1]);
    default:
      return {};
  }
}

// As program::wrapped_index() has them: negative indices count from the end, what is outside then
// is the nearest inside.
Tensor look_up(const Tensor& table, const std::vector<Tensor>& indices) {
  if (table.sym_numel() == 0) return at::scalar_tensor(0, table.options());
  c10::List<std::optional<Tensor>> places;
  for (size_t d = 0; d < indices.size(); ++d) {
    const int64_t size = table.sym_size(static_cast<int64_t>(d)).guard_int(__FILE__, __LINE__);
    const Tensor index = indices[d].detach().to(at::kLong);
    places.push_back(at::where(index < 0, index + size, index).clamp(0, size - 1));
  }
  return places.empty() ? table : at::index(table, places);
}

Tensor operation(const Node& node, std::vector<Tensor> args, at::ScalarType real) {
  const Tensor truth = logic(node.op, args);
  if (truth.defined()) return truth;
  if (node.op == Op::kWhere) {
    if (node.type == Type::kBool) return at::where(args[0], args[1], args[2]);
    return at::where(args[0], numbers(args[1], real), numbers(args[2], real));
  }
  for (Tensor& arg : args) arg = numbers(arg, real);
  const Tensor result = args.size() == 1 ? unary(node, args[0]) : binary(node.op, args[0], args[1]);
  return node.type == Type::kBool ? result.to(at::kBool) : result;  // min of two bools
}

Tensor leaf(const Node& node, const Pairs& pairs, const Tensor& dot) {
  switch (node.op) {
    case Op::kBatch:
      return pairs.b;
    case Op::kHead:
      return pairs.h;
    case Op::kQuery:
      return pairs.t;
    case Op::kKey:
      return pairs.s;
    case Op::kConstant: {
      const at::TensorOptions type = pairs.s.options();
      return at::scalar_tensor(node.value, node.type == Type::kBool ? type.dtype(at::kBool) : type);
    }
    default:
      return dot;
  }
}

std::vector<bool> needed_by(const Graph& graph, int root) {
  std::vector<bool> needed(root + 1);
  needed[root] = true;
  for (int id = root; id >= 0; --id) {
    if (!needed[id]) continue;
    for (const int arg : graph[id].args) needed[arg] = true;
  }
  return needed;
}

}  // namespace

ProgramFormula::ProgramFormula(const TensorProgram& program, at::ScalarType real)
    : program_(parse(program)), real_(real) {
  for (const Tensor& table : program.tables) {
    tables_.push_back(table.scalar_type() == at::kBool ? table : table.to(real));
  }
}

Tensor ProgramFormula::evaluate(int root, const Pairs& pairs, const Tensor& dot) const {
  const Graph& graph = program_->graph();
  const std::vector<bool> needed = needed_by(graph, root);
  std::vector<Tensor> values(root + 1);
  for (int id = 0; id <= root; ++id) {
    if (!needed[id]) continue;
    const Node& node = graph[id];
    std::vector<Tensor> args;
    for (const int arg : node.args) args.push_back(values[arg]);
    values[id] = node.op == Op::kLookup ? look_up(tables_[node.table], args)
                 : node.args.empty()    ? leaf(node, pairs, dot)
                                        : operation(node, std::move(args), real_);
  }
  return values[root];
}

}  // namespace heed
