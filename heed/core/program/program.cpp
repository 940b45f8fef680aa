// A program from its graph: checked, its mask taken out of the score, differentiated.
#include "heed/core/program/program.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "heed/core/program/derivative.h"
#include "heed/core/program/operation.h"

namespace heed::program {
namespace {

constexpr double kMasked = -std::numeric_limits<double>::infinity();

bool is_masked(const Graph& graph, int node) {
  return graph[node].op == Op::kConstant && graph[node].value == kMasked;
}

struct MaskedScore {
  int visible = -1;  // -1: it isn't one
  int score = -1;
};

// where(visible, score, -inf), whichever way round it is written, or a sum with such a term: -inf
// plus anything is masked. `depth`: sums of sums that are looked into.
MaskedScore masked_score(Graph& graph, int id, int depth = 8) {
  const Node node = graph[id];  // a copy: adding moves nodes
  const std::vector<int>& args = node.args;
  if (node.op == Op::kWhere) {
    if (is_masked(graph, args[2])) return {args[0], args[1]};
    if (is_masked(graph, args[1])) return {graph.add(Op::kNot, {args[0]}), args[2]};
  }
  const std::size_t terms = depth == 0 ? 0 : node.op == Op::kAdd ? 2 : node.op == Op::kSub ? 1 : 0;
  for (std::size_t i = 0; i < terms; ++i) {
    const MaskedScore term = masked_score(graph, args[i], depth - 1);
    if (term.visible < 0) continue;
    std::vector<int> rest = args;
    rest[i] = term.score;
    return {term.visible, graph.add(node.op, rest)};
  }
  return {};
}

std::string text_of(const TableType& table) {
  return std::string(name_of(table.type)) + "[" + std::to_string(table.rank) + "]";
}

}  // namespace

Type TableView::type() const {
  switch (element) {
    case Element::kInt32:
    case Element::kInt64:
      return Type::kInt;
    case Element::kBool:
      return Type::kBool;
    default:
      return Type::kFloat;
  }
}

Program::Program(Graph graph, int score, int mask, std::vector<TableType> tables)
    : graph_(std::move(graph)), score_(score), mask_(mask), tables_(std::move(tables)) {
  if (mask_ >= 0 && graph_[mask_].type != Type::kBool) {
    throw ProgramError(std::string("mask: expected bool, got ") + name_of(graph_[mask_].type));
  }
  if (score_ < 0) score_ = graph_.leaf(Op::kDot);
  take_mask_of_score();
  score_ = graph_.cast(score_, Type::kFloat);
  graph_.prune({&score_, &mask_});
  if (graph_.size() > kMostNodes) {
    throw ProgramError("program: expected at most " + std::to_string(kMostNodes) +
                       " operations, got " + std::to_string(graph_.size()));
  }
  check_tables();

  Derivative derivative = differentiate(graph_, score_);
  d_dot_ = derivative.d_dot;
  table_gradients_ = std::move(derivative.tables);
  std::vector<int*> roots = {&score_, &mask_, &d_dot_};
  for (TableGradient& table : table_gradients_) {
    roots.push_back(&table.lookup);
    roots.push_back(&table.value);
  }
  graph_.prune(roots);
}

void Program::take_mask_of_score() {
  for (;;) {
    const MaskedScore term = masked_score(graph_, score_);
    if (term.visible < 0) break;
    mask_ = mask_ < 0 ? term.visible : graph_.add(Op::kAnd, {mask_, term.visible});
    score_ = term.score;
  }
  const bool all = mask_ >= 0 && graph_[mask_].op == Op::kConstant && graph_[mask_].value != 0;
  if (all) mask_ = -1;
}

void Program::check_tables() const {
  for (int id = 0; id < graph_.size(); ++id) {
    const Node& node = graph_[id];
    if (node.op == Op::kGradient) throw ProgramError("program: reads its own gradient");
    if (node.op != Op::kLookup) continue;
    const std::string name = "table" + std::to_string(node.table);
    if (node.table < 0 || node.table >= static_cast<int>(tables_.size())) {
      throw ProgramError(name + ": expected one of " + std::to_string(tables_.size()) + " tables");
    }
    const TableType used = {node.type, static_cast<int>(node.args.size())};
    if (used == tables_[node.table]) continue;
    throw ProgramError(name + ": expected " + text_of(tables_[node.table]) + ", got a lookup in " +
                       text_of(used));
  }
}

bool Program::reads_dot() const {
  return graph_.reads_dot(score_) || (mask_ >= 0 && graph_.reads_dot(mask_));
}

bool Program::is_identity() const { return graph_[score_].op == Op::kDot; }

}  // namespace heed::program
