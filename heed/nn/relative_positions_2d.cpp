#include "heed/nn/relative_positions_2d.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>

#include "heed/nn/heads.h"
#include "heed/ops/score_program.h"

namespace heed::nn {
namespace {

// products [B,H,T,2 n - 1] by distance and the queries' places [T] or [B,T] along a side of the
// map -> by the `count` places of keys [B,H,T,count].
at::Tensor by_key_place(const at::Tensor& products, const at::Tensor& places, int64_t count,
                        int64_t stride) {
  const int64_t middle = products.size(3) / 2;
  const at::Tensor keys = stride * at::arange(count, at::kLong);
  const at::Tensor index = (places.unsqueeze(-1) - keys + middle).unsqueeze(-3);  // [*,1,T,count]
  return products.gather(
      -1, index.expand({products.size(0), products.size(1), products.size(2), count}));
}

// [S,count], 1 where key s stands at the place.
at::Tensor one_hot_places(const at::Tensor& places, int64_t count) {
  return places.unsqueeze(-1) == at::arange(count, at::kLong);
}

}  // namespace

RelativePositions2dImpl::RelativePositions2dImpl(const RelativePositions2dOptions& options)
    : options_(options) {
  const RelativePositions2dOptions& o = options_;
  TORCH_CHECK(o.rows > 0 && o.columns > 0,
              "[RelativePositions2d] rows, columns: expected at least 1, got ", o.rows, ", ",
              o.columns);
  TORCH_CHECK(o.bias || o.head_size > 0,
              "[RelativePositions2d] expected a bias, or head_size for vectors, or both");
  const int64_t down = 2 * o.rows - 1, right = 2 * o.columns - 1;
  if (o.bias) bias_ = register_parameter("bias", at::empty({o.heads, down, right}));
  if (o.head_size > 0) {
    row_table_ = register_parameter("row_table", at::empty({down, o.head_size}));
    column_table_ = register_parameter("column_table", at::empty({right, o.head_size}));
  }
  reset_parameters();
}

void RelativePositions2dImpl::reset_parameters() {
  if (options_.bias) torch::nn::init::normal_(bias_, 0, 0.02);
  if (options_.head_size == 0) return;
  const double deviation = 1 / std::sqrt(static_cast<double>(options_.head_size));
  torch::nn::init::normal_(row_table_, 0, deviation);
  torch::nn::init::normal_(column_table_, 0, deviation);
}

program::Expression RelativePositions2dImpl::score_mod(const program::Expression& score,
                                                       AttentionHeads& heads) {
  return score_mod_on({.columns = options_.columns, .key_columns = options_.columns}, score, heads);
}

program::Expression RelativePositions2dImpl::score_mod_on(const MapGrid& grid,
                                                          const program::Expression& score,
                                                          AttentionHeads& heads) {
  check_size(grid, heads);
  if (options_.head_size > 0) widen(grid, heads);
  if (!options_.bias) return score;
  // One index, made of a number a query and a number a key, is faster than two made a pair.
  const int64_t width = 2 * options_.columns - 1;
  const program::Expression query =
      grid.query_row(heads.offset) * width + grid.query_column(heads.offset);
  const program::Expression key = grid.key_row() * width + grid.key_column();
  const int64_t middle = (options_.rows - 1) * width + options_.columns - 1;
  return score + table(bias_.flatten(1)).at({program::h(), query - key + middle});
}

void RelativePositions2dImpl::check_size(const MapGrid& grid, const AttentionHeads& heads) const {
  const auto check = [&](const char* of, int64_t pixels, int64_t columns, int64_t stride) {
    const int64_t rows = (pixels + columns - 1) / columns;
    TORCH_CHECK(stride * (rows - 1) < options_.rows && stride * (columns - 1) < options_.columns,
                "[RelativePositions2d] ", of, ": expected a map of at most ", options_.rows, " x ",
                options_.columns, ", got ", rows, " x ", columns,
                stride > 1 ? " every " + std::to_string(stride) + " pixels" : "");
  };
  check("queries", heads.q.size(2), grid.columns, 1);
  check("keys", heads.k.size(2), grid.key_columns, grid.stride);
  TORCH_CHECK(!options_.bias || options_.heads == heads.q.size(1),
              "[RelativePositions2d] heads: expected ", options_.heads, ", got ", heads.q.size(1));
}

void RelativePositions2dImpl::widen(const MapGrid& grid, AttentionHeads& heads) const {
  TORCH_CHECK(heads.q.size(3) == options_.head_size, "[RelativePositions2d] head_size: expected ",
              options_.head_size, ", got ", heads.q.size(3));
  const int64_t S = heads.k.size(2), columns = grid.key_columns;
  const int64_t rows = (S + columns - 1) / columns;
  const at::Tensor queries = places_of(heads.offset, heads.q.size(2));  // [T] or [B,T]
  const at::Tensor keys = places_of({}, S);
  const auto of_queries = [&](const at::Tensor& vectors, const at::Tensor& places, int64_t count) {
    return by_key_place(at::matmul(heads.q, vectors.t()), places, count, grid.stride);
  };
  const at::Tensor by_row =
      of_queries(row_table_, queries.div(grid.columns, "floor"), rows);  // [B,H,T,rows]
  const at::Tensor by_column =
      of_queries(column_table_, queries.remainder(grid.columns), columns);  // [B,H,T,columns]
  heads.q = at::cat({heads.q, by_row, by_column}, -1);
  const at::Tensor places = at::cat({one_hot_places(keys.div(columns, "floor"), rows),
                                     one_hot_places(keys.remainder(columns), columns)},
                                    -1)  // [S,rows + columns]
                                .to(heads.k.scalar_type());
  heads.k = at::cat({heads.k, places.expand({heads.k.size(0), heads.k.size(1), -1, -1})}, -1);
}

void RelativePositions2dImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::RelativePositions2d(rows=" << options_.rows
         << ", columns=" << options_.columns << ", heads=" << options_.heads
         << ", bias=" << bool_name(options_.bias) << ", head_size=" << options_.head_size << ")";
}

}  // namespace heed::nn
