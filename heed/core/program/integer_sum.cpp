// Sums of integers in one form.
#include "heed/core/program/integer_sum.h"

#include <algorithm>
#include <cmath>

namespace heed::program {
namespace {

constexpr std::size_t kMostTerms = 8;          // longer sums are left as they are written
constexpr int kMostVisits = 4 * kMostTerms;    // so that a chain of n additions costs O(n)
constexpr double kLargest = int64_t{1} << 53;  // exact in double

void add_term(IntegerSum& sum, int node, double factor) {
  const auto known = std::find_if(sum.terms.begin(), sum.terms.end(),
                                  [&](const IntegerSum::Term& term) { return term.node == node; });
  if (known == sum.terms.end()) {
    sum.terms.push_back({node, factor});
  } else if ((known->factor += factor) == 0) {
    sum.terms.erase(known);
  }
}

bool is_exact(const IntegerSum& sum) {
  return std::abs(sum.constant) <= kLargest &&
         std::all_of(sum.terms.begin(), sum.terms.end(), [](const IntegerSum::Term& term) {
           return std::abs(term.factor) <= kLargest;
         });
}

int scaled(Graph& graph, double factor, int node) {
  if (factor == 1) return node;
  if (factor == -1) return graph.find_or_add({.op = Op::kNeg, .type = Type::kInt, .args = {node}});
  const int number = graph.constant(factor, Type::kInt);
  return graph.find_or_add({.op = Op::kMul, .type = Type::kInt, .args = {number, node}});
}

// left + or - right; left of -1: nothing yet.
int joined(Graph& graph, int left, Op op, int right) {
  if (left < 0) return right;
  return graph.find_or_add({.op = op, .type = Type::kInt, .args = {left, right}});
}

}  // namespace

bool IntegerSum::add(const Graph& graph, int first, double first_factor) {
  std::vector<Term> pending = {{first, first_factor}};
  for (int visits = 0; !pending.empty(); ++visits) {
    if (visits == kMostVisits) return false;
    const auto [id, factor] = pending.back();
    pending.pop_back();
    const Node& node = graph[id];
    const bool is_int = node.type == Type::kInt;
    if (node.op == Op::kConstant) {
      constant += factor * node.value;
    } else if (is_int && (node.op == Op::kAdd || node.op == Op::kSub)) {
      pending.push_back({node.args[0], factor});
      pending.push_back({node.args[1], node.op == Op::kAdd ? factor : -factor});
    } else if (is_int && node.op == Op::kNeg) {
      pending.push_back({node.args[0], -factor});
    } else if (is_int && node.op == Op::kMul && graph[node.args[0]].op == Op::kConstant) {
      pending.push_back({node.args[1], factor * graph[node.args[0]].value});
    } else if (node.op == Op::kCast && graph[node.args[0]].type == Type::kBool) {
      pending.push_back({node.args[0], factor});
    } else {
      add_term(*this, id, factor);
    }
  }
  return terms.size() <= kMostTerms && is_exact(*this);
}

int add_sum(Graph& graph, IntegerSum sum) {
  std::sort(sum.terms.begin(), sum.terms.end(),
            [&](const auto& x, const auto& y) { return graph.precedes(x.node, y.node); });
  int result = -1;
  for (const auto& [node, factor] : sum.terms) {
    if (factor > 0) result = joined(graph, result, Op::kAdd, scaled(graph, factor, node));
  }
  if (result < 0 && (sum.constant > 0 || sum.terms.empty())) {
    result = graph.constant(sum.constant, Type::kInt);
    sum.constant = 0;
  }
  for (const auto& [node, factor] : sum.terms) {
    if (factor > 0) continue;
    result = result < 0 ? scaled(graph, factor, node)
                        : joined(graph, result, Op::kSub, scaled(graph, -factor, node));
  }
  if (sum.constant != 0) {
    const int number = graph.constant(std::abs(sum.constant), Type::kInt);
    result = joined(graph, result, sum.constant > 0 ? Op::kAdd : Op::kSub, number);
  }
  return graph.cast(result, Type::kInt);
}

}  // namespace heed::program
