// What a program's nodes can be over a region of (b, h, t, s): the graph made ready for interval
// arithmetic, with its linear forms and the summaries of its tables.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "heed/core/band.h"
#include "heed/core/program/interval.h"
#include "heed/core/program/linear.h"
#include "heed/core/program/summaries.h"

namespace heed::program {

// All ends included; s - t in [left, right] besides.
struct Region {
  int64_t b_first, b_last, h_first, h_last, t_first, t_last, s_first, s_last;
  int64_t left = -kUnbounded, right = kUnbounded;
};

// What a node depends on.
struct Dependence {
  bool query = false, key = false;  // t, s
  bool pair = false;                // dot or gradient
  bool real = false;                // arithmetic that kernels round otherwise than the interpreter
  bool head_only() const { return !query && !key && !pair; }
};

class Ranges {
 public:
  Ranges(const Graph& graph, const std::vector<TableView>& tables);
  // To a copy of the graph that has more nodes.
  void extend(const Graph& graph);

  // Before evaluating: reads the tables, in blocks where they are part of `rest`, which will be
  // asked about small regions; as a whole where part of `mask`, of an index or integers. Others are
  // never read, and are anything. Nodes, or -1.
  void summarise(int mask, int rest);

  const Linear& form(int node) const { return forms_[node]; }
  // Of a comparison: left minus right, which is compared with 0. Null where both are real.
  const Linear* difference(int node) const {
    const Step& step = steps_[node];
    return step.kind == Step::Kind::kDifference ? &differences_[step.extra] : nullptr;
  }
  const Dependence& dependence(int node) const { return dependences_[node]; }

  // The nodes that `root` needs, itself last.
  std::vector<int> needs(int root) const;
  // One node from the intervals of those it needs, `values` being indexed by node.
  Interval evaluate(int node, const Region& region, const Interval* values) const;
  Interval evaluate(const Linear& form, const Region& region, const Interval* values) const;

 private:
  // A node without pointers to chase.
  struct Step {
    enum class Kind : uint8_t { kLeaf, kLookup, kLinear, kDifference, kOther };
    Kind kind;
    Op op;
    Type type;
    int args[3];
    double value;  // kConstant
    int extra;     // of differences_ or summaries_, or -1
  };

  Step step_of(int id);
  Dependence dependence_of(int id) const;
  std::vector<bool> cone(std::vector<int> roots) const;
  std::vector<bool> ranged_dimensions(int lookup) const;
  Interval leaf(const Step& step, const Region& region) const;
  template <class Body>
  void for_each_need(int node, const Body& body) const;

  const Graph* graph_;
  const std::vector<TableView>& tables_;
  std::vector<Linear> forms_, differences_;
  std::vector<Dependence> dependences_;
  std::vector<Step> steps_;
  std::vector<std::unique_ptr<TableSummary>> summaries_;
};

}  // namespace heed::program
