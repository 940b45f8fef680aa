// Feature maps [B,C,rows,columns] as the rows of attention, pixel after pixel of row after row.
#pragma once

#include <c10/util/Exception.h>

#include <algorithm>

#include "heed/core/program/expression.h"
#include "heed/nn/attention_positions.h"

namespace heed::nn {

inline void check_feature_map(const char* module, const at::Tensor& x, int64_t channels) {
  TORCH_CHECK(x.dim() == 4 && x.size(1) == channels, "[", module,
              "] x: expected [B,C,rows,columns] = [*, ", channels, ", *, *], got ", x.sizes());
}

// Channels between the two layers of a perceptron over channels.
inline int64_t reduced_channels(int64_t channels, int64_t reduction) {
  return std::max<int64_t>(channels / reduction, 1);
}

// [B,C,rows,columns] -> [B,T,C], a view.
inline at::Tensor rows_of_map(const at::Tensor& x) { return x.flatten(2).transpose(1, 2); }

// [B,T,C] -> [B,C,rows,columns] of the map `like`, a view.
inline at::Tensor map_of_rows(const at::Tensor& rows, const at::Tensor& like) {
  return rows.transpose(1, 2).unflatten(2, {like.size(2), like.size(3)});
}

// Where queries and keys stand on a map: query t at (t / columns, t % columns), key s at stride
// times (s / key_columns, s % key_columns).
struct MapGrid {
  int64_t columns, key_columns, stride = 1;

  program::Expression query_row(const at::Tensor& offset = {}) const {
    return program::floor_div(place_of(offset), columns);
  }
  program::Expression query_column(const at::Tensor& offset = {}) const {
    return place_of(offset) % columns;
  }
  program::Expression key_row() const {
    return stride * program::floor_div(program::s(), key_columns);
  }
  program::Expression key_column() const { return stride * (program::s() % key_columns); }
};

}  // namespace heed::nn
