// Finds the terms of a mask that are comparisons of t - s or s with what is fixed for a head.
#include "heed/core/program/mask_split.h"

#include <algorithm>
#include <cmath>

namespace heed::program {
namespace {

using Side = BandTerm::Side;

bool is_ordering(Op op) { return op == Op::kLess || op == Op::kLessEqual; }

std::optional<Side> side_of(const Linear& form) {
  if (form.key == 1 && form.query == -1) return Side::kRight;
  if (form.key == -1 && form.query == 1) return Side::kLeft;
  if (form.key == 1 && form.query == 0) return Side::kLimit;
  return std::nullopt;
}

class Splitter {
 public:
  Splitter(const Graph& graph, const Ranges& ranges) : graph_(graph), ranges_(ranges) {}

  void split(int node) {
    if (graph_[node].op == Op::kAnd) {
      for (const int arg : graph_[node].args) split(arg);
      return;
    }
    const std::vector<BandTerm> terms = band_terms(node);
    split_.band.insert(split_.band.end(), terms.begin(), terms.end());
    if (terms.empty()) split_.rest.push_back(node);
  }
  MaskSplit take() { return std::move(split_); }

 private:
  // Empty where the node is no comparison that a band can say.
  std::vector<BandTerm> band_terms(int id) const {
    const Node& node = graph_[id];
    if (!is_ordering(node.op) && node.op != Op::kEqual) return {};
    const Linear* const form = ranges_.difference(id);
    if (!form) return {};
    if (node.op != Op::kEqual) return at_most_zero({*form}, node.op == Op::kLess);
    if (form->query == 0) return {};  // a single key
    Linear other;
    other.add(*form, -1);
    return at_most_zero({*form, other}, /*strict=*/false);
  }

  // Terms that say that all the forms are at most 0 (or less), which are one form or its sides.
  std::vector<BandTerm> at_most_zero(std::vector<Linear> forms, bool strict) const {
    if (forms.size() == 1) {
      const std::vector<Linear> sides = sides_of_absolute(forms[0]);
      if (!sides.empty()) forms = sides;
    }
    std::vector<BandTerm> terms;
    for (Linear& form : forms) {
      const std::optional<Side> side = side_of(form);
      if (!side || !is_head_only(form)) return {};
      form.query = form.key = 0;
      terms.push_back({*side, strict, form});
    }
    return terms;
  }

  // |x| + rest <= 0 is x + rest <= 0 and -x + rest <= 0.
  std::vector<Linear> sides_of_absolute(const Linear& form) const {
    if (form.query != 0 || form.key != 0) return {};
    for (const Linear::Term& term : form) {
      if (graph_[term.node].op != Op::kAbs || term.factor != 1) continue;
      const Linear& inside = ranges_.form(graph_[term.node].args[0]);
      Linear positive, negative;
      const bool fits = inside.integer && positive.add(form, 1) &&
                        positive.add(ranges_.form(term.node), -1) && negative.add(positive, 1) &&
                        positive.add(inside, 1) && negative.add(inside, -1);
      if (fits && positive.query != 0) return {positive, negative};
    }
    return {};
  }

  bool is_head_only(const Linear& form) const {
    return std::all_of(form.begin(), form.end(), [&](const Linear::Term& term) {
      return ranges_.dependence(term.node).head_only();
    });
  }

  const Graph& graph_;
  const Ranges& ranges_;
  MaskSplit split_;
};

// The largest integer x with x + rest <= 0 (or < 0).
int64_t largest(double rest, bool strict) {
  const double x = strict ? std::ceil(-rest) - 1 : std::floor(-rest);
  constexpr double kFar = static_cast<double>(kUnbounded);
  return static_cast<int64_t>(std::clamp(x, -kFar, kFar));
}

}  // namespace

Band tightened(const Band& band, const BandTerm& term, double rest) {
  Band tight = band;
  if (std::isnan(rest)) {  // no comparison with it holds
    tight.limit = 0;
    return tight;
  }
  const int64_t most = largest(rest, term.strict);
  switch (term.side) {
    case Side::kRight:
      tight.right = std::min(band.right, most);
      break;
    case Side::kLeft:
      tight.left = std::max(band.left, -most);
      break;
    case Side::kLimit:
      tight.limit = std::clamp<int64_t>(most + 1, 0, band.limit);
      break;
  }
  return tight;
}

MaskSplit split_mask(const Graph& graph, int mask, const Ranges& ranges) {
  Splitter splitter(graph, ranges);
  if (mask >= 0) splitter.split(mask);
  return splitter.take();
}

}  // namespace heed::program
