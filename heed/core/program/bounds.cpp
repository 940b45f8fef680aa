// Intervals of every index and integer over the whole region; where that is too wide, once more
// under the conditions of mask, where(), & and |.
#include "heed/core/program/bounds.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

namespace heed::program {
namespace {

constexpr double kLargest = 1 << 24;  // to which floats hold every integer
constexpr int kMostContexts = 256;    // then conditions are ignored: sound, but perhaps too strict
constexpr int kMostNodesInContext = 2000;  // likewise: the check recurses

std::string number(double x) {
  if (std::isnan(x) || std::isinf(x)) return x > 0 ? "inf" : x < 0 ? "-inf" : "NaN";
  return std::to_string(static_cast<int64_t>(std::clamp(x, -0x1p62, 0x1p62)));
}

std::string text_of(Type type, std::size_t rank) {
  constexpr const char* kNames[] = {"bool", "int", "float"};
  return std::string(kNames[static_cast<int>(type)]) + "[" + std::to_string(rank) + "]";
}

// Operations that make new integers; the others pass on ones that are exact already.
bool makes_integers(Op op) {
  return op == Op::kLookup || op == Op::kAdd || op == Op::kSub || op == Op::kMul ||
         op == Op::kPow || op == Op::kFloorDiv || op == Op::kMod || op == Op::kBatch ||
         op == Op::kHead || op == Op::kQuery || op == Op::kKey;
}

// The value of largest size that `range` holds; infinite ends come of real arithmetic, which has no
// exact integers to lose.
std::optional<double> too_large(const Interval& range) {
  for (const double x : {range.high, range.low}) {
    if (std::isfinite(x) && std::abs(x) > kLargest) return x;
  }
  return std::nullopt;
}

// An index in [-size, size) that is not wrapped needs no guard.
bool is_within(const Interval& index, int64_t first, int64_t size) {
  return !index.maybe_nan && index.low >= static_cast<double>(first) &&
         index.high < static_cast<double>(size);
}

// What is known of a form besides what follows from the region.
struct Narrowing {
  Linear form;  // without constant
  double low, high;
};

// Region and narrowings under some conditions, and what the nodes are there.
struct Context {
  Region region;
  std::vector<Narrowing> narrowings;
  std::vector<Interval> values;  // sound for each node, checked or not
  std::vector<bool> checked;
};

// form = factor * part + constant.
std::optional<double> multiple_of(const Linear& form, const Linear& part) {
  if (form.count != part.count) return std::nullopt;
  const double ratio = part.query != 0 ? form.query / part.query
                       : part.key != 0 ? form.key / part.key
                                       : form.terms[0].factor / part.terms[0].factor;
  bool same = ratio != 0 && form.query == ratio * part.query && form.key == ratio * part.key;
  for (int i = 0; i < form.count; ++i) {
    same = same && form.terms[i].node == part.terms[i].node &&
           form.terms[i].factor == ratio * part.terms[i].factor;
  }
  return same ? std::optional(ratio) : std::nullopt;
}

// Takes into t and s what s - t says of them; false: no pair is left.
bool settle(Region& r) {
  r.s_first = std::max(r.s_first, r.t_first + r.left);
  r.s_last = std::min(r.s_last, r.t_last + r.right);
  r.t_first = std::max(r.t_first, r.s_first - r.right);
  r.t_last = std::min(r.t_last, r.s_last - r.left);
  return r.s_first <= r.s_last && r.t_first <= r.t_last && r.left <= r.right &&
         r.left <= r.s_last - r.t_first && r.right >= r.s_first - r.t_last;
}

void intersect(int64_t& first, int64_t& last, double low, double high) {
  constexpr double kFar = static_cast<double>(kUnbounded);
  first = std::max(first, static_cast<int64_t>(std::clamp(std::ceil(low), -kFar, kFar)));
  last = std::min(last, static_cast<int64_t>(std::clamp(std::floor(high), -kFar, kFar)));
}

class Checker {
 public:
  Checker(const Program& program, const Graph& graph, const Ranges& ranges,
          const std::vector<TableView>& tables)
      : program_(program), graph_(graph), ranges_(ranges), tables_(tables) {}

  Guards run(const Region& region) {
    evaluate_all(region);
    if (all_in_bounds()) return guards();
    Context context = {region, {}, values_, std::vector<bool>(graph_.size())};
    if (graph_.size() > kMostNodesInContext) {
      for (const int root : {program_.mask(), program_.score()}) check_without_conditions(root);
    } else if (settle(context.region)) {
      if (program_.mask() >= 0) check(program_.mask(), context);
      Context visible = unchecked(context);
      if (program_.mask() < 0 || narrow(visible, program_.mask(), true)) {
        check(program_.score(), visible);
      }
    }
    return guards();
  }

 private:
  void evaluate_all(Region region) {
    region.left = -kUnbounded;
    region.right = kUnbounded;
    values_.resize(graph_.size());
    for (int id = 0; id < graph_.size(); ++id) {
      values_[id] = ranges_.evaluate(id, region, values_.data());
    }
  }

  bool all_in_bounds() const {
    const int end = std::max(program_.score(), program_.mask()) + 1;
    for (int id = 0; id < end; ++id) {
      if (problem(id, values_.data())) return false;
    }
    return true;
  }

  Guards guards() const {
    Guards result(graph_.size());
    for (int id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      for (std::size_t d = 0; d < node.args.size() && node.op == Op::kLookup; ++d) {
        const int index = node.args[d];
        // Kernels compute reals less precisely than the intervals assume.
        result[id].push_back(ranges_.dependence(index).real ||
                             !is_within(values_[index], 0, tables_[node.table].sizes[d]));
      }
    }
    return result;
  }

  // What is wrong with a node of these values.
  std::optional<std::string> problem(int id, const Interval* values) const {
    const Node& node = graph_[id];
    if (node.type == Type::kInt && makes_integers(node.op)) {
      const std::optional<double> large = too_large(values[id]);
      if (large) return integer_message(id, *large);
    }
    if (node.op == Op::kFloorDiv || node.op == Op::kMod) {
      for (const int arg : node.args) {
        if (node.type != Type::kInt || graph_[arg].op == Op::kConstant) continue;
        const std::optional<double> large = too_large(values[arg]);
        if (large) return integer_message(arg, *large);
      }
    }
    if (node.op != Op::kLookup) return std::nullopt;
    for (std::size_t d = 0; d < node.args.size(); ++d) {
      const int64_t size = tables_[node.table].sizes[d];
      const Interval& index = values[node.args[d]];
      if (!is_within(index, -size, size)) return index_message(id, d, index, size);
    }
    return std::nullopt;
  }

  std::string integer_message(int id, double value) const {
    return text_of(id) + " can be " + number(value) +
           ": kernels hold integers in floats up to 2^24";
  }
  std::string index_message(int id, std::size_t d, const Interval& index, int64_t size) const {
    const double worst = index.high >= static_cast<double>(size)  ? index.high
                         : index.low < static_cast<double>(-size) ? index.low
                                                                  : NAN;
    return text_of(id) + ": index " + std::to_string(d) + " (" + text_of(graph_[id].args[d]) +
           ") can be " + number(worst) + ", the table has " + std::to_string(size);
  }
  std::string text_of(int id) const { return program::text_of(graph_, id); }

  void check_without_conditions(int root) const {
    if (root < 0) return;
    for (const int id : ranges_.needs(root)) {
      if (const auto wrong = problem(id, values_.data())) throw ProgramError(*wrong);
    }
  }

  // Checks what the node needs and returns what it can be.
  Interval check(int id, Context& context) {
    if (context.checked[id]) return context.values[id];
    const Node& node = graph_[id];
    Interval value;
    if (node.op == Op::kWhere) {
      value = check_choice(node, context);
    } else if (node.op == Op::kAnd || node.op == Op::kOr) {
      value = check_logic(id, context);
    } else {
      for (const int arg : node.args) check(arg, context);
      value = ranges_.evaluate(id, context.region, context.values.data());
    }
    context.values[id] = narrowed(id, value, context);
    if (const auto wrong = problem(id, context.values.data())) throw ProgramError(*wrong);
    context.checked[id] = true;
    return context.values[id];
  }

  Interval check_choice(const Node& node, Context& context) {
    const Interval condition = check(node.args[0], context);
    if (is_always(condition, 1)) return check(node.args[1], context);
    if (is_always(condition, 0)) return check(node.args[2], context);
    const auto yes = check_if(node.args[1], {node.args[0]}, true, context);
    const auto no = check_if(node.args[2], {node.args[0]}, false, context);
    if (!yes) return no ? *no : kAnything;
    return no ? hull(*yes, *no) : *yes;
  }

  // Each term matters only where all others hold (&), or none does (|).
  Interval check_logic(int id, Context& context) {
    std::vector<int> terms;
    flatten(id, graph_[id].op, terms);
    for (std::size_t i = 0; i < terms.size(); ++i) {
      std::vector<int> others = terms;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
      check_if(terms[i], others, graph_[id].op == Op::kAnd, context);
    }
    return {0, 1};
  }

  void flatten(int id, Op op, std::vector<int>& terms) const {
    if (graph_[id].op != op) return terms.push_back(id);
    for (const int arg : graph_[id].args) flatten(arg, op, terms);
  }

  Context unchecked(const Context& context) const {
    return {context.region, context.narrowings, context.values, std::vector<bool>(graph_.size())};
  }

  // The node where the conditions are `truth`; none where they can't all be.
  std::optional<Interval> check_if(int id, const std::vector<int>& conditions, bool truth,
                                   Context& context) {
    if (++contexts_ > kMostContexts) return check(id, context);
    Context inner = unchecked(context);
    for (const int condition : conditions) {
      if (!narrow(inner, condition, truth)) return std::nullopt;
    }
    return check(id, inner);
  }

  Interval narrowed(int id, Interval value, const Context& context) const {
    const Linear& form = ranges_.form(id);
    for (const Narrowing& narrowing : context.narrowings) {
      const std::optional<double> ratio = multiple_of(form, narrowing.form);
      if (!ratio) continue;
      double low = *ratio * narrowing.low, high = *ratio * narrowing.high;
      if (low > high) std::swap(low, high);
      value.low = std::max(value.low, low + form.constant);
      value.high = std::min(value.high, high + form.constant);
    }
    return value;
  }

  // Takes into the context that the condition is `truth`; false where it can't be.
  bool narrow(Context& context, int condition, bool truth) const {
    const Node& node = graph_[condition];
    if (node.op == Op::kNot) return narrow(context, node.args[0], !truth);
    if ((node.op == Op::kAnd && truth) || (node.op == Op::kOr && !truth)) {
      return narrow(context, node.args[0], truth) && narrow(context, node.args[1], truth);
    }
    const Linear* const difference = ranges_.difference(condition);
    return difference == nullptr || narrow_difference(context, node.op, *difference, truth);
  }

  bool narrow_difference(Context& context, Op op, const Linear& difference, bool truth) const {
    const Interval now = ranges_.evaluate(difference, context.region, context.values.data());
    const double step = difference.integer ? 1 : 0;
    double low = -kInfinity, high = kInfinity;
    if (op == Op::kLess || op == Op::kLessEqual) {
      if (!truth && now.maybe_nan) return true;  // it may be false without saying anything
      if (truth) {
        high = op == Op::kLess ? -step : 0;
      } else {
        low = op == Op::kLess ? 0 : step;
      }
    } else if (truth == (op == Op::kEqual)) {
      low = high = 0;
    } else {
      return true;
    }
    return narrow_parts(context, difference, low, high);
  }

  // The sum, its part of t and s, and each of its terms, given what the others can be.
  bool narrow_parts(Context& context, const Linear& sum, double low, double high) const {
    if (!narrow_form(context, sum, low, high)) return false;
    Linear positions;
    positions.query = sum.query;
    positions.key = sum.key;
    if (sum.count > 0 && (positions.query != 0 || positions.key != 0) &&
        !narrow_part(context, sum, positions, low, high)) {
      return false;
    }
    for (int i = 0; i < sum.count; ++i) {
      Linear term;
      term.count = 1;
      term.terms[0] = sum.terms[i];
      term.integer = sum.integer || i < sum.count - 1;
      const bool alone = sum.count == 1 && sum.query == 0 && sum.key == 0;
      if (!alone && !narrow_part(context, sum, term, low, high)) return false;
    }
    return true;
  }

  bool narrow_part(Context& context, const Linear& sum, const Linear& part, double low,
                   double high) const {
    Linear others;
    if (!others.add(sum, 1) || !others.add(part, -1)) return true;
    const Interval rest = ranges_.evaluate(others, context.region, context.values.data());
    if (rest.maybe_nan) return true;
    return narrow_form(context, part, low - rest.high, high - rest.low);
  }

  // form in [low, high], where it is not so already.
  bool narrow_form(Context& context, Linear form, double low, double high) const {
    low -= form.constant;
    high -= form.constant;
    form.constant = 0;
    if (std::isnan(low) || std::isnan(high) || form.is_constant()) return true;
    const Interval now = ranges_.evaluate(form, context.region, context.values.data());
    if (!now.maybe_nan && (now.high < low || now.low > high)) return false;
    if (form.count == 0) return narrow_positions(context, form, low, high);
    context.narrowings.push_back({form, low, high});
    if (form.count > 1 || form.query != 0 || form.key != 0) return true;
    const auto [term, factor] = form.terms[0];
    if (factor < 0) std::swap(low, high);
    context.values[term] = narrowed(term, context.values[term], context);
    if (graph_[term].op != Op::kAbs) return true;
    const double most = high / factor;
    return narrow_form(context, ranges_.form(graph_[term].args[0]), -most, most);
  }

  bool narrow_positions(Context& context, const Linear& form, double low, double high) const {
    Region& region = context.region;
    const bool diagonal = form.query == -form.key;
    if (!diagonal && form.query != 0 && form.key != 0) {
      context.narrowings.push_back({form, low, high});
      return true;
    }
    const double factor = form.key != 0 ? form.key : form.query;
    low /= factor;
    high /= factor;
    if (factor < 0) std::swap(low, high);
    if (diagonal) {
      intersect(region.left, region.right, low, high);
    } else if (form.key != 0) {
      intersect(region.s_first, region.s_last, low, high);
    } else {
      intersect(region.t_first, region.t_last, low, high);
    }
    return settle(region);
  }

  const Program& program_;
  const Graph& graph_;
  const Ranges& ranges_;
  const std::vector<TableView>& tables_;
  std::vector<Interval> values_;  // over the whole region, band and conditions apart
  int contexts_ = 0;
};

}  // namespace

void check_tables(const Program& program, const std::vector<TableView>& tables) {
  const std::vector<TableType>& expected = program.tables();
  if (tables.size() != expected.size()) {
    throw ProgramError("tables: expected " + std::to_string(expected.size()) + ", got " +
                       std::to_string(tables.size()));
  }
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const TableType& type = expected[i];
    const Type got = tables[i].type();
    const std::size_t rank = tables[i].sizes.size();
    if (got == type.type && rank == static_cast<std::size_t>(type.rank) &&
        rank == tables[i].strides.size()) {
      continue;
    }
    throw ProgramError("table" + std::to_string(i) + ": expected " +
                       text_of(type.type, static_cast<std::size_t>(type.rank)) + ", got " +
                       text_of(got, rank));
  }
}

Guards check_bounds(const Program& program, const Graph& graph, const Ranges& ranges,
                    const std::vector<TableView>& tables, const Region& region) {
  return Checker(program, graph, ranges, tables).run(region);
}

}  // namespace heed::program
