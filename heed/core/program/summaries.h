// What the elements of a table can be: least and greatest of its blocks, made in one pass, so that
// a range of indices is answered without reading it.
#pragma once

#include <cstdint>
#include <vector>

#include "heed/core/program/interval.h"
#include "heed/core/program/program.h"

namespace heed::program {

// Indices [first, last] of a dimension, both within it.
struct IndexRange {
  int64_t first, last;
};
// Where indices from an interval point (wrapped_index of scalar.h).
IndexRange index_range(const Interval& index, int64_t size);

class TableSummary {
 public:
  // ranged[d]: queries have ranges of indices in dimension d. Blocks are made of the two of these
  // with the least strides, for each index of the others. None: only whole() and single elements.
  TableSummary(const TableView& table, const std::vector<bool>& ranged);

  // Of the elements whose index in dimension d lies in intervals[nodes[d]].
  Interval query(const Interval* intervals, const int* nodes) const;
  Interval whole() const { return whole_; }

 private:
  // Rounded outwards; NaN elements are not counted. Without elements low is inf and high -inf.
  struct Extent {
    float low, high;
  };
  struct Dimension {
    int64_t size, stride;  // of the table; size 1 where it is broadcast
    int64_t block_stride;  // of blocks_, other dimensions than rows and columns
  };

  int pick(const std::vector<bool>& among, int other) const;
  void size_blocks();
  template <class Item>
  void scan_table();
  template <class Item>
  void scan_rows(int64_t offset, Extent* blocks);
  void double_levels(Extent* level);
  Extent blocks_extent(const Extent* blocks, IndexRange rows, IndexRange columns) const;
  Interval elements(int64_t offset, IndexRange rows, IndexRange columns) const;
  Interval interval(const Extent& extent) const;

  template <class Item>
  static Extent scan(const Item* x, int64_t n, int64_t stride, bool& nan);
  static Extent scan_bools(const uint8_t* x, int64_t n);
  static Extent scan_bools(const uint8_t* x, int64_t n, int64_t stride);
  static void merge(Extent& into, const Extent& extent);

  TableView table_;
  std::vector<Dimension> dimensions_;
  int row_ = -1, column_ = -1;  // dimensions that are scanned together; -1: none, one element
  bool is_empty_ = false, blocked_ = false;
  Dimension rows_ = {1, 0, 0}, columns_ = {1, 0, 0};
  int64_t row_blocks_ = 1, column_blocks_ = 1, levels_ = 1;
  // [other dimensions..., row_blocks_, levels_, column_blocks_]; level l is of 2^l blocks of
  // columns from the one given on.
  std::vector<Extent> blocks_;
  bool maybe_nan_ = false;
  Interval whole_ = kAnything;
};

}  // namespace heed::program
