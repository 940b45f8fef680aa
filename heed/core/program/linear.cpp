// Linear forms, from the leaves up.
#include "heed/core/program/linear.h"

#include <algorithm>
#include <cmath>

namespace heed::program {
namespace {

Linear single(int node, bool integer) {
  Linear form;
  form.integer = integer;
  form.count = 1;
  form.terms[0] = {node, 1};
  return form;
}

// The sum, difference or multiple that the node is, if its arguments are integers.
std::optional<Linear> sum_form(const Node& node, const std::vector<Linear>& forms) {
  Linear form;
  for (const int arg : node.args) {
    if (!forms[arg].integer) return std::nullopt;
  }
  const Linear& first = forms[node.args[0]];
  const Linear& last = forms[node.args.back()];
  bool fits = false;
  if (node.op == Op::kNeg) fits = form.add(first, -1);
  if (node.op == Op::kCast && node.type != Type::kBool) fits = form.add(first, 1);
  if (node.op == Op::kAdd) fits = form.add(first, 1) && form.add(last, 1);
  if (node.op == Op::kSub) fits = form.add(first, 1) && form.add(last, -1);
  if (node.op == Op::kMul && last.is_constant()) fits = form.add(first, last.constant);
  if (node.op == Op::kMul && first.is_constant()) fits = form.add(last, first.constant);
  return fits ? std::optional(form) : std::nullopt;
}

}  // namespace

bool Linear::add(const Linear& other, double by) {
  if (!other.integer && (!integer || std::abs(by) != 1)) return false;
  constant += by * other.constant;
  query += by * other.query;
  key += by * other.key;
  if (by == 0) return true;
  for (const Term& term : other) {
    const bool is_real = !other.integer && &term == other.end() - 1;
    Term* const integers_end = terms.data() + count - (integer ? 0 : 1);
    Term* const at = is_real
                         ? terms.data() + count
                         : std::lower_bound(terms.data(), integers_end, term.node,
                                            [](const Term& x, int node) { return x.node < node; });
    if (at < integers_end && at->node == term.node) {
      at->factor += by * term.factor;
      if (at->factor != 0) continue;
      std::copy(at + 1, terms.data() + count, at);
      --count;
      continue;
    }
    if (count == kMostTerms) return false;
    std::copy_backward(at, terms.data() + count, terms.data() + count + 1);
    *at = {term.node, by * term.factor};
    ++count;
  }
  integer = integer && other.integer;
  return true;
}

Linear linear_form(const Graph& graph, int id, const std::vector<Linear>& forms) {
  const Node& node = graph[id];
  switch (node.op) {
    case Op::kQuery:
      return {.query = 1};
    case Op::kKey:
      return {.key = 1};
    case Op::kConstant:
      if (std::floor(node.value) == node.value && std::abs(node.value) < 0x1p40) {
        return {.constant = node.value};
      }
      break;
    case Op::kNeg:
    case Op::kCast:
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
      if (const std::optional<Linear> form = sum_form(node, forms)) return *form;
      break;
    default:
      break;
  }
  return single(id, node.type != Type::kFloat);
}

std::optional<Linear> difference(const Node& comparison, const std::vector<Linear>& forms) {
  Linear form;
  const bool fits =
      form.add(forms[comparison.args[0]], 1) && form.add(forms[comparison.args[1]], -1);
  return fits ? std::optional(form) : std::nullopt;
}

}  // namespace heed::program
