// Blocks of tables: one pass in memory order, then ranges by two overlapping runs of blocks.
#include "heed/core/program/summaries.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "heed/core/program/scalar.h"
#include "heed/core/ref/convert.h"

namespace heed::program {
namespace {

// 64 bools are a cache line; a tile of the kernels touches two or three blocks a side.
constexpr int64_t kBlock = 64;
// Ranges up to this are read element by element where blocks leave them undecided: a tile's pairs
// cost far more than its mask's bytes.
constexpr int64_t kMostScanned = 128;
constexpr uint64_t kEachByteOne = 0x0101010101010101;

int64_t blocks_of(int64_t size) { return (size + kBlock - 1) / kBlock; }

float rounded_down(double x) {
  const float near = static_cast<float>(x);
  return near > x ? std::nextafter(near, -INFINITY) : near;
}
float rounded_up(double x) {
  const float near = static_cast<float>(x);
  return near < x ? std::nextafter(near, INFINITY) : near;
}

// Calls body with the table's first element, in its own type.
template <class Body>
void with_items(const TableView& table, const Body& body) {
  switch (table.element) {
    case Element::kFloat32:
      return body(static_cast<const float*>(table.data));
    case Element::kBFloat16:
      return body(static_cast<const BFloat16*>(table.data));
    case Element::kFloat16:
      return body(static_cast<const Float16*>(table.data));
    case Element::kFloat64:
      return body(static_cast<const double*>(table.data));
    case Element::kInt32:
      return body(static_cast<const int32_t*>(table.data));
    case Element::kInt64:
      return body(static_cast<const int64_t*>(table.data));
    case Element::kBool:
      return body(static_cast<const bool*>(table.data));
  }
}

}  // namespace

IndexRange index_range(const Interval& index, int64_t size) {
  const bool crosses_zero = index.low < 0 && index.high >= 0;
  if (index.maybe_nan || crosses_zero) return {0, size - 1};
  return {wrapped_index(index.low, size), wrapped_index(index.high, size)};
}

void TableSummary::merge(Extent& into, const Extent& extent) {
  into.low = extent.low < into.low ? extent.low : into.low;
  into.high = extent.high > into.high ? extent.high : into.high;
}

// Eight at a time, the last ones beside zeros (for any) or ones (for all).
TableSummary::Extent TableSummary::scan_bools(const uint8_t* x, int64_t n) {
  uint64_t any = 0, all = kEachByteOne;
  for (; n >= 8; n -= 8, x += 8) {
    uint64_t word;
    std::memcpy(&word, x, 8);
    any |= word;
    all &= word;
  }
  uint64_t last_any = 0, last_all = kEachByteOne;
  std::memcpy(&last_any, x, static_cast<std::size_t>(n));
  std::memcpy(&last_all, x, static_cast<std::size_t>(n));
  any |= last_any;
  all &= last_all;
  return {all == kEachByteOne ? 1.0f : 0.0f, any != 0 ? 1.0f : 0.0f};
}

TableSummary::Extent TableSummary::scan_bools(const uint8_t* x, int64_t n, int64_t stride) {
  Extent extent = {1, 0};
  for (int64_t i = 0; i < n; ++i) {
    const float value = x[i * stride] != 0 ? 1 : 0;
    merge(extent, {value, value});
  }
  return extent;
}

template <class Item>
TableSummary::Extent TableSummary::scan(const Item* x, int64_t n, int64_t stride, bool& nan) {
  if constexpr (std::is_same_v<Item, bool>) {
    const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(x);
    return stride == 1 ? scan_bools(bytes, n) : scan_bools(bytes, n, stride);
  } else if constexpr (std::is_integral_v<Item>) {
    Item low = *x, high = *x;
    for (int64_t i = 1; i < n; ++i) {
      low = std::min(low, x[i * stride]);
      high = std::max(high, x[i * stride]);
    }
    return {rounded_down(static_cast<double>(low)), rounded_up(static_cast<double>(high))};
  } else {
    double low = kInfinity, high = -kInfinity;
    for (int64_t i = 0; i < n; ++i) {
      const double value = ref::to_double(x[i * stride]);
      nan |= std::isnan(value);
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    return {rounded_down(low), rounded_up(high)};
  }
}

TableSummary::TableSummary(const TableView& table, const std::vector<bool>& ranged)
    : table_(table) {
  std::vector<bool> all;
  for (std::size_t d = 0; d < table.sizes.size(); ++d) {
    const bool broadcast = table.strides[d] == 0;
    dimensions_.push_back({broadcast ? 1 : table.sizes[d], table.strides[d], 0});
    is_empty_ |= table.sizes[d] == 0;
    all.push_back(!broadcast);
  }
  if (is_empty_) {
    whole_ = {0, 0};  // what the interpreter reads
    return;
  }
  column_ = pick(ranged, -1);
  blocked_ = column_ >= 0;
  if (!blocked_) column_ = pick(all, -1);
  row_ = pick(blocked_ ? ranged : all, column_);
  size_blocks();
  with_items(table_, [&](auto* data) {
    scan_table<std::remove_const_t<std::remove_pointer_t<decltype(data)>>>();
  });
}

// The dimension with the least stride.
int TableSummary::pick(const std::vector<bool>& among, int other) const {
  int picked = -1;
  for (int d = 0; d < static_cast<int>(among.size()); ++d) {
    if (!among[d] || dimensions_[d].stride == 0 || d == other) continue;
    const bool closer =
        picked < 0 || std::abs(dimensions_[d].stride) < std::abs(dimensions_[picked].stride);
    if (closer) picked = d;
  }
  return picked;
}

void TableSummary::size_blocks() {
  if (column_ >= 0) columns_ = dimensions_[column_];
  if (row_ >= 0) rows_ = dimensions_[row_];
  if (!blocked_) return;
  row_blocks_ = blocks_of(rows_.size);
  column_blocks_ = blocks_of(columns_.size);
  levels_ = std::bit_width(static_cast<uint64_t>(column_blocks_));
  int64_t count = row_blocks_ * levels_ * column_blocks_;
  for (int d = static_cast<int>(dimensions_.size()) - 1; d >= 0; --d) {
    if (d == row_ || d == column_) continue;
    dimensions_[d].block_stride = count;
    count *= dimensions_[d].size;
  }
  blocks_.assign(count, {INFINITY, -INFINITY});
}

// Every element, for each index of the dimensions that have no blocks.
template <class Item>
void TableSummary::scan_table() {
  Extent whole = {INFINITY, -INFINITY};
  Extent unblocked[1];
  std::vector<int64_t> index(dimensions_.size(), 0);
  int64_t offset = 0, block = 0;
  while (true) {
    unblocked[0] = {INFINITY, -INFINITY};
    Extent* const blocks = blocked_ ? blocks_.data() + block : unblocked;
    scan_rows<Item>(offset, blocks);
    for (int64_t r = 0; r < row_blocks_; ++r) {
      Extent* const level = blocks + r * levels_ * column_blocks_;
      for (int64_t c = 0; c < column_blocks_; ++c) merge(whole, level[c]);
      double_levels(level);
    }
    int d = static_cast<int>(dimensions_.size()) - 1;
    for (; d >= 0; --d) {  // the next index
      if (d == row_ || d == column_) continue;
      offset += dimensions_[d].stride;
      block += dimensions_[d].block_stride;
      if (++index[d] < dimensions_[d].size) break;
      offset -= dimensions_[d].size * dimensions_[d].stride;
      block -= dimensions_[d].size * dimensions_[d].block_stride;
      index[d] = 0;
    }
    if (d < 0) break;
  }
  whole_ = interval(whole);
}

template <class Item>
void TableSummary::scan_rows(int64_t offset, Extent* blocks) {
  const Item* const data = static_cast<const Item*>(table_.data) + offset;
  for (int64_t r = 0; r < rows_.size; ++r) {
    const Item* const row = data + r * rows_.stride;
    Extent* const extents = blocked_ ? blocks + r / kBlock * levels_ * column_blocks_ : blocks;
    for (int64_t c = 0; c < columns_.size; c += kBlock) {
      const int64_t n = std::min(kBlock, columns_.size - c);
      const Extent extent = scan(row + c * columns_.stride, n, columns_.stride, maybe_nan_);
      merge(extents[blocked_ ? c / kBlock : 0], extent);
    }
  }
}

void TableSummary::double_levels(Extent* level) {
  for (int64_t l = 1; l < levels_; ++l) {
    const Extent* const finer = level + (l - 1) * column_blocks_;
    Extent* const coarser = level + l * column_blocks_;
    for (int64_t c = 0; c < column_blocks_; ++c) {
      coarser[c] = finer[c];
      merge(coarser[c], finer[std::min(c + (int64_t{1} << (l - 1)), column_blocks_ - 1)]);
    }
  }
}

Interval TableSummary::interval(const Extent& extent) const {
  if (extent.low > extent.high) return kAnything;  // all NaN
  return {extent.low, extent.high, maybe_nan_};
}

TableSummary::Extent TableSummary::blocks_extent(const Extent* blocks, IndexRange rows,
                                                 IndexRange columns) const {
  const int64_t first = columns.first / kBlock, last = columns.last / kBlock;
  const int64_t level = std::bit_width(static_cast<uint64_t>(last - first + 1)) - 1;
  const int64_t second = last + 1 - (int64_t{1} << level);
  Extent extent = {INFINITY, -INFINITY};
  for (int64_t r = rows.first / kBlock; r <= rows.last / kBlock; ++r) {
    const Extent* const runs = blocks + (r * levels_ + level) * column_blocks_;
    merge(extent, runs[first]);
    merge(extent, runs[second]);
  }
  return extent;
}

Interval TableSummary::elements(int64_t offset, IndexRange rows, IndexRange columns) const {
  const int64_t n = columns.last - columns.first + 1;
  Extent extent = {INFINITY, -INFINITY};
  bool nan = false;
  with_items(table_, [&](auto* data) {
    constexpr bool kIsBool = std::is_same_v<decltype(data), const bool*>;
    for (int64_t r = rows.first; r <= rows.last; ++r) {
      if (kIsBool && extent.low < extent.high) break;  // both are there
      const auto* const row = data + offset + r * rows_.stride + columns.first * columns_.stride;
      merge(extent, scan(row, n, columns_.stride, nan));
    }
  });
  if (extent.low > extent.high) return kAnything;
  return {extent.low, extent.high, nan};
}

Interval TableSummary::query(const Interval* intervals, const int* nodes) const {
  if (is_empty_) return whole_;
  int64_t offset = 0, block = 0;
  IndexRange rows = {0, 0}, columns = {0, 0};
  for (int d = 0; d < static_cast<int>(dimensions_.size()); ++d) {
    const Dimension& dimension = dimensions_[d];
    const IndexRange range = index_range(intervals[nodes[d]], dimension.size);
    if (blocked_ && d == column_) {
      columns = range;
    } else if (blocked_ && d == row_) {
      rows = range;
    } else if (range.first != range.last) {
      return whole_;
    } else {
      offset += range.first * dimension.stride;
      block += range.first * dimension.block_stride;
    }
  }
  if (!blocked_) {
    const double value = read_element(table_, offset);
    return std::isnan(value) ? kAnything : Interval{value, value};
  }
  const Extent extent = blocks_extent(blocks_.data() + block, rows, columns);
  const bool is_small =
      rows.last - rows.first < kMostScanned && columns.last - columns.first < kMostScanned;
  const bool decided = extent.low == extent.high && !maybe_nan_;
  return decided || !is_small ? interval(extent) : elements(offset, rows, columns);
}

}  // namespace heed::program
