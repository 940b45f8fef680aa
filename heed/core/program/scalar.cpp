// The scalar interpreter: the nodes that the wanted one needs, in the graph's order.
#include "heed/core/program/scalar.h"

#include <algorithm>
#include <cmath>

#include "heed/core/program/operation.h"
#include "heed/core/ref/convert.h"

namespace heed::program {
namespace {

class Interpreter {
 public:
  Interpreter(const Graph& graph, const std::vector<TableView>& tables, const Pair& pair)
      : graph_(graph), tables_(tables), pair_(pair) {}

  double run(int root) {
    mark(root);
    for (int id = 0; id <= root; ++id) {
      if (needed_[id]) values_[id] = value(graph_[id]);
    }
    return values_[root];
  }

  // In steps of stride(d) for dimension d.
  template <class Stride>
  int64_t offset(const Node& lookup, const Stride& stride) const {
    const TableView& table = tables_[lookup.table];
    int64_t offset = 0;
    for (std::size_t d = 0; d < lookup.args.size(); ++d) {
      offset += wrapped_index(values_[lookup.args[d]], table.sizes[d]) * stride(d);
    }
    return offset;
  }

 private:
  void mark(int root) {
    if (values_.size() <= static_cast<std::size_t>(root)) {
      values_.resize(root + 1);
      needed_.resize(root + 1);
    }
    std::fill_n(needed_.begin(), root, uint8_t{0});
    needed_[root] = 1;
    for (int id = root; id >= 0; --id) {
      if (!needed_[id]) continue;
      for (const int arg : graph_[id].args) needed_[arg] = 1;
    }
  }

  double lookup(const Node& node) const {
    const TableView& table = tables_[node.table];
    const auto is_empty = [](int64_t size) { return size == 0; };
    if (std::any_of(table.sizes.begin(), table.sizes.end(), is_empty)) return 0;
    return read_element(table, offset(node, [&](std::size_t d) { return table.strides[d]; }));
  }

  double value(const Node& node) const {
    switch (node.op) {
      case Op::kDot:
        return pair_.dot;
      case Op::kBatch:
        return static_cast<double>(pair_.b);
      case Op::kHead:
        return static_cast<double>(pair_.h);
      case Op::kQuery:
        return static_cast<double>(pair_.t);
      case Op::kKey:
        return static_cast<double>(pair_.s);
      case Op::kConstant:
        return node.value;
      case Op::kGradient:
        return pair_.gradient;
      case Op::kLookup:
        return lookup(node);
      default:
        break;
    }
    double args[3] = {};
    for (std::size_t i = 0; i < node.args.size(); ++i) args[i] = values_[node.args[i]];
    return apply(node.op, node.type, args);
  }

  const Graph& graph_;
  const std::vector<TableView>& tables_;
  const Pair& pair_;
  // Called for every pair: no allocation each time.
  static thread_local std::vector<double> values_;
  static thread_local std::vector<uint8_t> needed_;
};

thread_local std::vector<double> Interpreter::values_;
thread_local std::vector<uint8_t> Interpreter::needed_;

}  // namespace

int64_t wrapped_index(double index, int64_t size) {
  if (size <= 0 || std::isnan(index)) return 0;
  const double n = static_cast<double>(size);
  return static_cast<int64_t>(std::clamp(index < 0 ? index + n : index, 0.0, n - 1));
}

double read_element(const TableView& table, int64_t offset) {
  switch (table.element) {
    case Element::kFloat32:
      return static_cast<const float*>(table.data)[offset];
    case Element::kBFloat16:
      return ref::to_double(static_cast<const BFloat16*>(table.data)[offset]);
    case Element::kFloat16:
      return ref::to_double(static_cast<const Float16*>(table.data)[offset]);
    case Element::kFloat64:
      return static_cast<const double*>(table.data)[offset];
    case Element::kInt32:
      return static_cast<const int32_t*>(table.data)[offset];
    case Element::kInt64:
      return static_cast<double>(static_cast<const int64_t*>(table.data)[offset]);
    case Element::kBool:
      return static_cast<const uint8_t*>(table.data)[offset] != 0;
  }
  return 0;
}

double evaluate(const Graph& graph, const std::vector<TableView>& tables, int node,
                const Pair& pair) {
  return Interpreter(graph, tables, pair).run(node);
}

int64_t dense_offset(const Graph& graph, const std::vector<TableView>& tables, int lookup,
                     const Pair& pair) {
  Interpreter interpreter(graph, tables, pair);
  interpreter.run(lookup);
  const std::vector<int64_t>& sizes = tables[graph[lookup].table].sizes;
  return interpreter.offset(graph[lookup], [&](std::size_t d) {
    int64_t stride = 1;
    for (std::size_t inner = d + 1; inner < sizes.size(); ++inner) stride *= sizes[inner];
    return stride;
  });
}

}  // namespace heed::program
