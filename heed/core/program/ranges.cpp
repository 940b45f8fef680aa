// Intervals of nodes over regions.
#include "heed/core/program/ranges.h"

#include <algorithm>
#include <map>
#include <utility>

namespace heed::program {
namespace {

bool is_comparison(Op op) {
  return op == Op::kLess || op == Op::kLessEqual || op == Op::kEqual || op == Op::kNotEqual;
}

Interval numbers(int64_t first, int64_t last) {
  return {static_cast<double>(first), static_cast<double>(last)};
}

Interval scaled(const Interval& x, double factor) {
  if (factor == 0) return {0, 0, x.maybe_nan};
  const double low = x.low * factor, high = x.high * factor;
  return factor > 0 ? Interval{low, high, x.maybe_nan} : Interval{high, low, x.maybe_nan};
}

Interval sum(const Interval& x, const Interval& y) {
  return apply(Op::kAdd, Type::kFloat, x, y, kAnything);
}

// query * t + key * s, t - s being one variable.
Interval positions(double query, double key, const Region& region) {
  if (query == -key) {
    return scaled(numbers(std::max(region.s_first - region.t_last, region.left),
                          std::min(region.s_last - region.t_first, region.right)),
                  key);
  }
  const Interval t = scaled(numbers(region.t_first, region.t_last), query);
  const Interval s = scaled(numbers(region.s_first, region.s_last), key);
  return {t.low + s.low, t.high + s.high};
}

}  // namespace

Ranges::Ranges(const Graph& graph, const std::vector<TableView>& tables)
    : graph_(&graph), tables_(tables) {
  forms_.reserve(graph.size());
  dependences_.reserve(graph.size());
  steps_.reserve(graph.size());
  extend(graph);
}

void Ranges::extend(const Graph& graph) {
  graph_ = &graph;
  for (int id = static_cast<int>(steps_.size()); id < graph.size(); ++id) {
    forms_.push_back(linear_form(graph, id, forms_));
    dependences_.push_back(dependence_of(id));
    steps_.push_back(step_of(id));
  }
}

Dependence Ranges::dependence_of(int id) const {
  const Node& node = (*graph_)[id];
  Dependence result;
  result.query = node.op == Op::kQuery;
  result.key = node.op == Op::kKey;
  result.pair = node.op == Op::kDot || node.op == Op::kGradient;
  result.real = node.type == Type::kFloat && node.op != Op::kConstant;
  for (const int arg : node.args) {
    const Dependence& of_arg = dependences_[arg];
    result.query |= of_arg.query;
    result.key |= of_arg.key;
    result.pair |= of_arg.pair;
    result.real |= of_arg.real;
  }
  return result;
}

Ranges::Step Ranges::step_of(int id) {
  const Node& node = (*graph_)[id];
  Step step = {.kind = Step::Kind::kOther,
               .op = node.op,
               .type = node.type,
               .args = {0, 0, 0},
               .value = node.value,
               .extra = -1};
  for (std::size_t i = 0; i < std::min<std::size_t>(node.args.size(), 3); ++i) {
    step.args[i] = node.args[i];
  }
  const Linear& form = forms_[id];
  const bool is_own_term = form.count == 1 && form.terms[0].node == id;
  if (node.op == Op::kLookup) {
    step.kind = Step::Kind::kLookup;
  } else if (node.args.empty()) {
    step.kind = Step::Kind::kLeaf;
  } else if (!is_own_term) {
    step.kind = Step::Kind::kLinear;
  } else if (is_comparison(node.op)) {
    if (const std::optional<Linear> both = program::difference(node, forms_)) {
      step.kind = Step::Kind::kDifference;
      step.extra = static_cast<int>(differences_.size());
      differences_.push_back(*both);
    }
  }
  return step;
}

template <class Body>
void Ranges::for_each_need(int node, const Body& body) const {
  const Step& step = steps_[node];
  if (step.kind == Step::Kind::kLinear || step.kind == Step::Kind::kDifference) {
    const Linear& form = step.kind == Step::Kind::kLinear ? forms_[node] : differences_[step.extra];
    for (const Linear::Term& term : form) body(term.node);
  } else {
    for (const int arg : (*graph_)[node].args) body(arg);
  }
}

std::vector<int> Ranges::needs(int root) const {
  std::vector<bool> needed(root + 1);
  needed[root] = true;
  std::vector<int> nodes;
  for (int id = root; id >= 0; --id) {
    if (!needed[id]) continue;
    nodes.push_back(id);
    for_each_need(id, [&](int need) { needed[need] = true; });
  }
  std::reverse(nodes.begin(), nodes.end());
  return nodes;
}

std::vector<bool> Ranges::cone(std::vector<int> roots) const {
  std::vector<bool> inside(graph_->size());
  for (const int root : roots) {
    if (root >= 0) inside[root] = true;
  }
  for (int id = graph_->size() - 1; id >= 0; --id) {
    if (!inside[id]) continue;
    for (const int arg : (*graph_)[id].args) inside[arg] = true;
  }
  return inside;
}

std::vector<bool> Ranges::ranged_dimensions(int lookup) const {
  std::vector<bool> ranged;
  for (const int index : (*graph_)[lookup].args) {
    ranged.push_back(!dependences_[index].head_only());
  }
  return ranged;
}

void Ranges::summarise(int mask, int rest) {
  std::vector<int> lookups, roots = {mask};
  for (int id = 0; id < graph_->size(); ++id) {
    if ((*graph_)[id].op != Op::kLookup) continue;
    lookups.push_back(id);
    roots.insert(roots.end(), (*graph_)[id].args.begin(), (*graph_)[id].args.end());
  }
  if (lookups.empty()) return;
  const std::vector<bool> wanted = cone(roots), blocked = cone({rest});
  std::map<std::pair<int, std::vector<bool>>, int> made;
  for (const int id : lookups) {
    const Node& node = (*graph_)[id];
    if (!wanted[id] && node.type != Type::kInt) continue;
    std::vector<bool> ranged = ranged_dimensions(id);
    if (!blocked[id]) ranged.assign(ranged.size(), false);
    const auto [known, is_new] =
        made.try_emplace({node.table, ranged}, static_cast<int>(summaries_.size()));
    if (is_new) {
      summaries_.push_back(std::make_unique<TableSummary>(tables_[node.table], ranged));
    }
    steps_[id].extra = known->second;
  }
}

Interval Ranges::leaf(const Step& step, const Region& region) const {
  switch (step.op) {
    case Op::kBatch:
      return numbers(region.b_first, region.b_last);
    case Op::kHead:
      return numbers(region.h_first, region.h_last);
    case Op::kQuery:
      return numbers(region.t_first, region.t_last);
    case Op::kKey:
      return numbers(region.s_first, region.s_last);
    case Op::kConstant:
      return step.value == step.value ? Interval{step.value, step.value} : kAnything;
    default:
      return kAnything;
  }
}

Interval Ranges::evaluate(const Linear& form, const Region& region, const Interval* values) const {
  Interval result = {form.constant, form.constant};
  if (form.query != 0 || form.key != 0) {
    result = sum(result, positions(form.query, form.key, region));
  }
  for (const Linear::Term& term : form) {
    result = sum(result, scaled(values[term.node], term.factor));
  }
  return result;
}

Interval Ranges::evaluate(int node, const Region& region, const Interval* values) const {
  const Step& step = steps_[node];
  switch (step.kind) {
    case Step::Kind::kLeaf:
      return leaf(step, region);
    case Step::Kind::kLookup:
      if (step.extra < 0) return step.type == Type::kBool ? Interval{0, 1} : kAnything;
      return summaries_[step.extra]->query(values, (*graph_)[node].args.data());
    case Step::Kind::kLinear:
      return evaluate(forms_[node], region, values);
    case Step::Kind::kDifference:
      return apply(step.op, step.type, evaluate(differences_[step.extra], region, values), {0, 0},
                   kAnything);
    case Step::Kind::kOther:
      break;
  }
  return apply(step.op, step.type, values[step.args[0]], values[step.args[1]],
               values[step.args[2]]);
}

}  // namespace heed::program
