// Which elements of a table the gradient of one head reaches, so that sums take no more than those.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/core/program/bounds.h"
#include "heed/core/program/program.h"
#include "heed/core/program/ranges.h"

namespace heed::program {

// Where b and h are the first indices of all lookups, head (b, h) reaches `size` elements from
// b * batch + h * head on.
struct GradientBlock {
  int64_t size = 1, batch = 0, head = 0;
  std::vector<int64_t> strides;  // of the dense table, 0 where the index chooses the block
  bool owned = false;            // no two heads share a block

  // No two pairs, of whatever heads, meet in an element, as in table[b, h, t, t - s + S]: there are
  // no sums to be kept. Then `strides` are the whole table's.
  bool once = false;
  bool strays = false;  // but hidden pairs, which add 0, may meet others
};

// By table; for those that no gradient is of, as if a head reached all.
std::vector<GradientBlock> gradient_blocks(const Graph& graph, const Ranges& ranges,
                                           const std::vector<TableGradient>& gradients,
                                           const std::vector<TableView>& tables,
                                           const Guards& guards, int64_t B, int64_t H);

}  // namespace heed::program
