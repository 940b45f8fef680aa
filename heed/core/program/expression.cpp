// Programs written in C++: expressions are trees with shared parts, walked once into a graph.
#include "heed/core/program/expression.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

namespace heed::program {

struct ExpressionNode {
  using Pointer = std::shared_ptr<const ExpressionNode>;

  Op op;
  Type type = Type::kFloat;  // kConstant, kCast, kLookup
  double value = 0;          // kConstant
  std::shared_ptr<const TableView> table = nullptr;
  mutable std::vector<Pointer> args = {};

  // Long chains are taken apart here, not by recursion, which could exhaust the stack.
  ~ExpressionNode() {
    std::vector<Pointer> pending = std::move(args);
    while (!pending.empty()) {
      const Pointer node = std::move(pending.back());
      pending.pop_back();
      if (node.use_count() > 1) continue;
      std::move(node->args.begin(), node->args.end(), std::back_inserter(pending));
      node->args.clear();
    }
  }
};

namespace {

Expression leaf(Op op) {
  return Expression(std::make_shared<const ExpressionNode>(ExpressionNode{.op = op}));
}

std::shared_ptr<const ExpressionNode> constant(double value, Type type) {
  return std::make_shared<const ExpressionNode>(
      ExpressionNode{.op = Op::kConstant, .type = type, .value = value});
}

Expression make(Op op, std::initializer_list<const Expression*> args, Type type = Type::kFloat) {
  ExpressionNode node{.op = op, .type = type};
  for (const Expression* arg : args) node.args.push_back(arg->node());
  return Expression(std::make_shared<const ExpressionNode>(std::move(node)));
}

std::shared_ptr<const TableView> dense(const void* data, Element element,
                                       std::vector<int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) strides[i] = stride;
  return std::make_shared<const TableView>(TableView{data, element, std::move(sizes), strides});
}

bool is_same(const TableView& x, const TableView& y) {
  return x.data == y.data && x.element == y.element && x.sizes == y.sizes && x.strides == y.strides;
}

// Expressions into one graph, each once.
class Builder {
 public:
  int node(const Expression& expression);

  Graph graph;
  std::vector<TableView> tables;
  std::vector<TableType> types;

 private:
  int add(const ExpressionNode& node);
  int number_of(const TableView& table);

  std::unordered_map<const ExpressionNode*, int> known_;
};

int Builder::number_of(const TableView& table) {
  const auto known = std::find_if(tables.begin(), tables.end(),
                                  [&](const TableView& other) { return is_same(table, other); });
  if (known != tables.end()) return static_cast<int>(known - tables.begin());
  tables.push_back(table);
  types.push_back({table.type(), static_cast<int>(table.sizes.size())});
  return static_cast<int>(tables.size()) - 1;
}

int Builder::add(const ExpressionNode& node) {
  std::vector<int> args;
  for (const auto& arg : node.args) args.push_back(known_.at(arg.get()));
  switch (node.op) {
    case Op::kConstant:
      return graph.constant(node.value, node.type);
    case Op::kLookup:
      return graph.lookup(number_of(*node.table), node.type, std::move(args));
    case Op::kCast:
      return graph.cast(args[0], node.type);
    default:
      return args.empty() ? graph.leaf(node.op) : graph.add(node.op, std::move(args));
  }
}

int Builder::node(const Expression& expression) {
  std::vector<const ExpressionNode*> pending = {expression.node().get()};
  while (!pending.empty()) {
    const ExpressionNode* node = pending.back();
    const std::size_t before = pending.size();
    if (known_.count(node) == 0) {
      for (auto arg = node->args.rbegin(); arg != node->args.rend(); ++arg) {
        if (known_.count(arg->get()) == 0) pending.push_back(arg->get());
      }
    }
    if (pending.size() != before) continue;
    pending.pop_back();
    if (known_.count(node) == 0) known_[node] = add(*node);
  }
  return known_.at(expression.node().get());
}

}  // namespace

Expression::Expression(double value) : node_(constant(value, Type::kFloat)) {}
Expression::Expression(float value) : Expression(static_cast<double>(value)) {}
Expression::Expression(int64_t value) : node_(constant(static_cast<double>(value), Type::kInt)) {}
Expression::Expression(int value) : Expression(int64_t{value}) {}
Expression::Expression(bool value) : node_(constant(value, Type::kBool)) {}

Expression score() { return leaf(Op::kDot); }
Expression b() { return leaf(Op::kBatch); }
Expression h() { return leaf(Op::kHead); }
Expression t() { return leaf(Op::kQuery); }
Expression s() { return leaf(Op::kKey); }

Table::Table(const float* data, std::vector<int64_t> sizes)
    : view_(dense(data, Element::kFloat32, std::move(sizes))) {}
Table::Table(const double* data, std::vector<int64_t> sizes)
    : view_(dense(data, Element::kFloat64, std::move(sizes))) {}
Table::Table(const int64_t* data, std::vector<int64_t> sizes)
    : view_(dense(data, Element::kInt64, std::move(sizes))) {}
Table::Table(const int32_t* data, std::vector<int64_t> sizes)
    : view_(dense(data, Element::kInt32, std::move(sizes))) {}
Table::Table(const bool* data, std::vector<int64_t> sizes)
    : view_(dense(data, Element::kBool, std::move(sizes))) {}
Table::Table(TableView view) : view_(std::make_shared<const TableView>(std::move(view))) {}

Expression Table::at(std::initializer_list<Expression> indices) const {
  if (indices.size() != view_->sizes.size()) {
    throw ProgramError("table: expected an index for each of " +
                       std::to_string(view_->sizes.size()) + " dimensions, got " +
                       std::to_string(indices.size()));
  }
  ExpressionNode node{.op = Op::kLookup, .type = view_->type(), .table = view_};
  for (const Expression& index : indices) node.args.push_back(index.node());
  return Expression(std::make_shared<const ExpressionNode>(std::move(node)));
}
Expression Table::operator[](const Expression& index) const { return at({index}); }
Expression Table::value() const { return at({}); }

Expression operator+(const Expression& x, const Expression& y) { return make(Op::kAdd, {&x, &y}); }
Expression operator-(const Expression& x, const Expression& y) { return make(Op::kSub, {&x, &y}); }
Expression operator*(const Expression& x, const Expression& y) { return make(Op::kMul, {&x, &y}); }
Expression operator/(const Expression& x, const Expression& y) { return make(Op::kDiv, {&x, &y}); }
Expression floor_div(const Expression& x, const Expression& y) {
  return make(Op::kFloorDiv, {&x, &y});
}
Expression operator%(const Expression& x, const Expression& y) { return make(Op::kMod, {&x, &y}); }
Expression operator-(const Expression& x) { return make(Op::kNeg, {&x}); }
Expression operator<(const Expression& x, const Expression& y) { return make(Op::kLess, {&x, &y}); }
Expression operator<=(const Expression& x, const Expression& y) {
  return make(Op::kLessEqual, {&x, &y});
}
Expression operator>(const Expression& x, const Expression& y) { return y < x; }
Expression operator>=(const Expression& x, const Expression& y) { return y <= x; }
Expression operator==(const Expression& x, const Expression& y) {
  return make(Op::kEqual, {&x, &y});
}
Expression operator!=(const Expression& x, const Expression& y) {
  return make(Op::kNotEqual, {&x, &y});
}
Expression operator&(const Expression& x, const Expression& y) { return make(Op::kAnd, {&x, &y}); }
Expression operator|(const Expression& x, const Expression& y) { return make(Op::kOr, {&x, &y}); }
Expression operator&&(const Expression& x, const Expression& y) { return x & y; }
Expression operator||(const Expression& x, const Expression& y) { return x | y; }
Expression operator!(const Expression& x) { return make(Op::kNot, {&x}); }
Expression abs(const Expression& x) { return make(Op::kAbs, {&x}); }
Expression exp(const Expression& x) { return make(Op::kExp, {&x}); }
Expression log(const Expression& x) { return make(Op::kLog, {&x}); }
Expression tanh(const Expression& x) { return make(Op::kTanh, {&x}); }
Expression sigmoid(const Expression& x) { return make(Op::kSigmoid, {&x}); }
Expression sqrt(const Expression& x) { return make(Op::kSqrt, {&x}); }
Expression floor(const Expression& x) { return make(Op::kFloor, {&x}); }
Expression pow(const Expression& x, const Expression& y) { return make(Op::kPow, {&x, &y}); }
Expression min(const Expression& x, const Expression& y) { return make(Op::kMin, {&x, &y}); }
Expression max(const Expression& x, const Expression& y) { return make(Op::kMax, {&x, &y}); }
Expression where(const Expression& condition, const Expression& x, const Expression& y) {
  return make(Op::kWhere, {&condition, &x, &y});
}
Expression to_int(const Expression& x) { return make(Op::kCast, {&x}, Type::kInt); }
Expression to_float(const Expression& x) { return make(Op::kCast, {&x}, Type::kFloat); }

ScoreProgram::ScoreProgram(const Expression& score) {
  Builder builder;
  const int score_node = builder.node(score);
  program = std::make_shared<const Program>(std::move(builder.graph), score_node, -1,
                                            std::move(builder.types));
  tables = std::move(builder.tables);
}

ScoreProgram::ScoreProgram(const Expression& score, const Expression& mask) {
  Builder builder;
  const int score_node = builder.node(score), mask_node = builder.node(mask);
  program = std::make_shared<const Program>(std::move(builder.graph), score_node, mask_node,
                                            std::move(builder.types));
  tables = std::move(builder.tables);
}

ScoreProgram ScoreProgram::masked(const Expression& mask) {
  return ScoreProgram(program::score(), mask);
}

}  // namespace heed::program
