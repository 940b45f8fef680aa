// Sums of the gradients of a program's tables, in an order that no thread can change: a chunk's
// part, added to its head's sum, added to the whole. All of them hold no more than a head can touch
// (GradientBlock); a head that shares its block with none is the whole, and where no two pairs meet
// in an element, it is added to at once.
#pragma once

#include <algorithm>
#include <vector>

#include "heed/core/attention.h"
#include "heed/core/program/bound.h"
#include "heed/core/program/bytecode.h"
#include "heed/core/program/gradient_blocks.h"

namespace heed {

template <class E>
class TableGradients {
 public:
  TableGradients(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients)
      : group_(inputs.shape.group()) {
    if (inputs.program == nullptr || gradients.d_tables == nullptr) return;
    const std::vector<program::TableView>& views = inputs.program->tables();
    for (size_t i = 0; i < views.size(); ++i) {
      Table table = {&inputs.program->gradient_blocks()[i], gradients.d_tables[i]};
      for (int64_t n : views[i].sizes) table.elements *= n;
      if (table.to != nullptr) add(table);
      tables_.push_back(table);
    }
    total_.resize(static_cast<size_t>(total_size_));
  }

  // Whether no two heads add to the same element.
  bool owned() const { return total_.empty(); }
  // Sums so large that parts would fill the memory: units run one after the other and add to their
  // head's at once. A function of the tables' sizes only.
  bool serial() const { return size_ > kLargest; }
  // Whether chunks of one head may run at the same time.
  bool parallel_chunks() const { return !serial() && !strays_; }

  // Zeroes the tables, of which not all may be touched.
  void begin(Executor& executor) const {
    constexpr int64_t kPiece = 1 << 16;
    for (const Table& table : tables_) {
      if (table.to == nullptr) continue;
      auto piece = [&](int64_t index, int) {
        const int64_t first = index * kPiece;
        std::fill_n(table.to + first, std::min(kPiece, table.elements - first), RealOf<E>{0});
      };
      executor.parallel((table.elements + kPiece - 1) / kPiece, piece);
    }
  }

  // Makes room for `count` heads that run at once, and for as many parts of them or for none.
  enum class Parts { kNone, kAll };
  void reserve(int64_t count, Parts parts) {
    const auto sums = static_cast<size_t>(count * size_);
    if (heads_.size() < sums) heads_.resize(sums, 0.0);
    if (parts_.size() < sums && parts == Parts::kAll) parts_.resize(sums, 0.0);
    targets_.resize(static_cast<size_t>(count) * tables_.size());
  }

  // Where head (b, h), the i-th of those that run at once, adds: to its sum or to a chunk's part of
  // that. Null: nothing is wanted.
  enum class Sum { kHead, kPart };
  const program::TableTarget* targets(int64_t i, int64_t b, int64_t h, Sum sum) {
    if (!any_) return nullptr;
    const bool head = sum == Sum::kHead || serial();
    double* const sums = (head ? heads_ : parts_).data() + i * size_;
    program::TableTarget* const to = targets_.data() + i * static_cast<int64_t>(tables_.size());
    for (size_t n = 0; n < tables_.size(); ++n) {
      const Table& table = tables_[n];
      to[n] = {nullptr, nullptr};
      if (table.to == nullptr) continue;
      if (table.block->once) {
        to[n].elements = table.to;
      } else if (serial() && table.total >= 0) {
        to[n].sums = total_.data() + table.total + first_of(table, b, h);
      } else {
        to[n].sums = sums + table.at + h % table.copies * table.block->size;
      }
    }
    return to;
  }

  // The i-th head's part joins its sum and is zero again.
  void end_chunk(int64_t i) { add_part(i, i); }
  // The i-th part is the next chunk of the one head whose sum is the first.
  void end_chunk_of_first(int64_t i) { add_part(i, 0); }

  // The i-th sum is all of the key head's.
  void end_head(int64_t i, int64_t b, int64_t kv_head) {
    for (const Table& table : tables_) {
      for (int64_t copy = 0; table.sums() && copy < table.copies; ++copy) {
        double* const sum = heads_.data() + i * size_ + table.at + copy * table.block->size;
        end_block(table, sum, first_of(table, b, kv_head * group_ + copy));
        std::fill_n(sum, table.block->size, 0.0);
      }
    }
  }

  void write() const {
    for (const Table& table : tables_) {
      for (int64_t k = 0; table.total >= 0 && k < table.elements; ++k) {
        table.to[k] = static_cast<RealOf<E>>(total_[table.total + k]);
      }
    }
  }

 private:
  static constexpr int64_t kLargest = int64_t{1} << 20;  // 8 MB a part

  struct Table {
    const program::GradientBlock* block;
    RealOf<E>* to;         // null: not wanted
    int64_t elements = 1;  // of the whole table
    int64_t copies = 1;    // of the block in a part: of the group's heads, where each has its own
    int64_t at = 0;        // of the first in a part
    int64_t total = -1;    // of the table in the total; -1: heads own their blocks

    bool sums() const { return to != nullptr && !block->once; }
  };

  void add(Table& table) {
    any_ = true;
    if (table.block->once) {
      strays_ = strays_ || table.block->strays;
      return;
    }
    if (table.block->head != 0) table.copies = group_;
    table.at = size_;
    size_ += table.copies * table.block->size;
    if (table.block->owned) return;
    table.total = total_size_;
    total_size_ += table.elements;
  }

  static int64_t first_of(const Table& table, int64_t b, int64_t h) {
    return b * table.block->batch + h * table.block->head;
  }

  void add_part(int64_t i, int64_t head) {
    if (serial()) return;
    double *part = parts_.data() + i * size_, *sum = heads_.data() + head * size_;
    for (int64_t k = 0; k < size_; ++k) sum[k] += part[k];
    std::fill_n(part, size_, 0.0);
  }

  void end_block(const Table& table, const double* sum, int64_t first) {
    if (table.total < 0) {
      RealOf<E>* const to = table.to + first;
      for (int64_t k = 0; k < table.block->size; ++k) to[k] = static_cast<RealOf<E>>(sum[k]);
    } else if (!serial()) {
      double* const to = total_.data() + table.total + first;
      for (int64_t k = 0; k < table.block->size; ++k) to[k] += sum[k];
    }
  }

  const int64_t group_;
  std::vector<Table> tables_;
  int64_t size_ = 0;  // of a part
  int64_t total_size_ = 0;
  bool any_ = false, strays_ = false;
  std::vector<double> total_, heads_, parts_;
  std::vector<program::TableTarget> targets_;  // of each table, for each that runs at once
};

}  // namespace heed
