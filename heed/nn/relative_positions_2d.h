// Relative positions on maps: score + bias[h, dy, dx] (Liu 2021, Swin) + scale q[t] . (row[dy] +
// column[dx]) (Bello 2019), dy and dx the rows and columns from key s to query t.
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/attention_positions.h"
#include "heed/nn/feature_map.h"

namespace heed::nn {

struct RelativePositions2dOptions {
  int64_t rows, columns;  // of the largest map
  int64_t heads = 1;      // H
  bool bias = true;       // whether there is bias[h, dy, dx]
  int64_t head_size = 0;  // D of the vectors row[dy] and column[dx], shared among heads; 0: none
};

// The bias is a table of the program. The vectors' products are sums over a map's rows and columns,
// so they join the product of q and k as rows + columns further elements: faster than two tables
// [B,H,T,rows] and [B,H,T,columns], and O(B H T (D + rows + columns)) memory either way.
class RelativePositions2dImpl : public AttentionPositionsImpl {
 public:
  explicit RelativePositions2dImpl(const RelativePositions2dOptions& options);

  // Normal: the bias with deviation 0.02, as Swin's program, the vectors with 1 / sqrt(D), as
  // Bello's.
  void reset_parameters();

  // Of tokens that are the pixels of a map `columns` wide, row after row.
  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;
  // Of queries and keys on a map of any size up to the options'.
  program::Expression score_mod_on(const MapGrid& grid, const program::Expression& score,
                                   AttentionHeads& heads);

  void pretty_print(std::ostream& stream) const override;

 private:
  void check_size(const MapGrid& grid, const AttentionHeads& heads) const;
  void widen(const MapGrid& grid, AttentionHeads& heads) const;

  RelativePositions2dOptions options_;
  at::Tensor bias_;                      // [H,2 rows - 1,2 columns - 1], or undefined
  at::Tensor row_table_, column_table_;  // [2 rows - 1,D], [2 columns - 1,D], or undefined
};
TORCH_MODULE(RelativePositions2d);

}  // namespace heed::nn
