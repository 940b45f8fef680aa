// Finds the blocks from the indices of the lookups.
#include "heed/core/program/gradient_blocks.h"

#include <algorithm>

namespace heed::program {
namespace {

std::vector<int64_t> dense_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0; stride *= sizes[d]) strides[d] = stride;
  return strides;
}

// The lookups whose gradients go to a table.
std::vector<int> lookups_of(size_t table, const Graph& graph,
                            const std::vector<TableGradient>& gradients) {
  std::vector<int> lookups;
  for (const TableGradient& gradient : gradients) {
    if (graph[gradient.lookup].table == static_cast<int>(table)) lookups.push_back(gradient.lookup);
  }
  return lookups;
}

// Takes b and h out of the block where every lookup begins with them.
void split_leading(const Graph& graph, const std::vector<int>& lookups, GradientBlock& block) {
  if (lookups.empty()) return;
  const std::vector<int>& first = graph[lookups[0]].args;
  for (size_t d = 0; d < first.size(); ++d) {
    const bool everywhere = std::all_of(lookups.begin(), lookups.end(), [&](int lookup) {
      return graph[lookup].args[d] == first[d];
    });
    const Op op = graph[first[d]].op;
    int64_t& step = op == Op::kBatch ? block.batch : block.head;
    if (!everywhere || (op != Op::kBatch && op != Op::kHead) || step != 0) return;
    step = block.strides[d];
    block.strides[d] = 0;
    block.size = step;
  }
}

// Whether some index is `op` itself, so that no two of its values share elements.
bool has_index(const Graph& graph, const Node& lookup, Op op) {
  return std::any_of(lookup.args.begin(), lookup.args.end(),
                     [&](int index) { return graph[index].op == op; });
}

// Whether two indices tell t and s: sums of multiples of them and of the head's numbers.
bool tells_pairs(const Ranges& ranges, const Node& lookup, const TableView& table) {
  std::vector<Linear> sums;
  for (size_t d = 0; d < lookup.args.size(); ++d) {
    const Linear& form = ranges.form(lookup.args[d]);
    const bool is_sum =
        form.integer && std::all_of(form.begin(), form.end(), [&](const Linear::Term& term) {
          return ranges.dependence(term.node).head_only();
        });
    if (is_sum && table.sizes[d] > 1) sums.push_back(form);
  }
  for (const Linear& x : sums) {
    for (const Linear& y : sums) {
      if (x.query * y.key != x.key * y.query) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<GradientBlock> gradient_blocks(const Graph& graph, const Ranges& ranges,
                                           const std::vector<TableGradient>& gradients,
                                           const std::vector<TableView>& tables,
                                           const Guards& guards, int64_t B, int64_t H) {
  std::vector<GradientBlock> blocks(tables.size());
  for (size_t table = 0; table < tables.size(); ++table) {
    GradientBlock& block = blocks[table];
    const std::vector<int64_t>& sizes = tables[table].sizes;
    block.strides = dense_strides(sizes);
    for (const int64_t size : sizes) block.size *= size;
    const std::vector<int> lookups = lookups_of(table, graph, gradients);
    if (lookups.size() == 1) {
      const Node& lookup = graph[lookups[0]];
      const std::vector<bool>& guarded = guards[lookups[0]];
      block.once = (B == 1 || has_index(graph, lookup, Op::kBatch)) &&
                   (H == 1 || has_index(graph, lookup, Op::kHead)) &&
                   tells_pairs(ranges, lookup, tables[table]);
      block.strays = std::find(guarded.begin(), guarded.end(), true) != guarded.end();
    }
    if (!block.once) split_leading(graph, lookups, block);
    block.owned = (B == 1 || block.batch != 0) && (H == 1 || block.head != 0);
  }
  return blocks;
}

}  // namespace heed::program
