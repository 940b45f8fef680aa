// Sums of the gradients of a program's tables, in an order that no thread can change: a chunk's
// part, added to its head's sum, added to the whole.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "heed/core/attention.h"
#include "heed/core/program/bound.h"

namespace heed {

template <class E>
class TableGradients {
 public:
  TableGradients(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients) {
    if (inputs.program == nullptr || gradients.d_tables == nullptr) return;
    for (const program::TableView& table : inputs.program->tables()) {
      int64_t size = 1;
      for (int64_t n : table.sizes) size *= n;
      const bool wants = gradients.d_tables[offsets_.size()] != nullptr;
      offsets_.push_back(wants ? size_ : kNotWanted);
      sizes_.push_back(size);
      if (wants) size_ += size;
      any_ = any_ || wants;
    }
    total_.resize(static_cast<size_t>(size_));
  }

  bool wanted() const { return any_; }
  // Tables so large that parts would fill the memory: units run one after the other and add to the
  // whole at once. A function of the tables' sizes only.
  bool serial() const { return size_ > kLargest; }

  // Makes zeroed parts and sums for `count` chunks or heads that run at once.
  void begin(int64_t count) {
    if (!any_ || serial()) return;
    parts_.assign(static_cast<size_t>(count * size_), 0.0);
    if (static_cast<int64_t>(heads_.size()) < count * size_) heads_.resize(count * size_, 0.0);
    pointers_.resize(static_cast<size_t>(count) * offsets_.size());
    for (int64_t i = 0; i < count; ++i) point(i, parts_.data() + i * size_);
  }

  // Where the i-th of them adds: one pointer a table. Null: nothing is wanted.
  double* const* part(int64_t i) {
    if (!any_) return nullptr;
    if (serial()) {
      pointers_.resize(offsets_.size());
      point(0, total_.data());
      return pointers_.data();
    }
    return pointers_.data() + i * static_cast<int64_t>(offsets_.size());
  }

  // The i-th head's next chunk is done: its part joins the head's sum and is zero again.
  void end_chunk(int64_t i) {
    if (!any_ || serial()) return;
    double *part = parts_.data() + i * size_, *head = heads_.data() + i * size_;
    for (int64_t k = 0; k < size_; ++k) head[k] += part[k];
    std::fill_n(part, size_, 0.0);
  }
  // The i-th part is the next chunk of the one head whose sum is the first.
  void add_chunk(int64_t i) {
    if (!any_ || serial()) return;
    const double* part = parts_.data() + i * size_;
    for (int64_t k = 0; k < size_; ++k) heads_[k] += part[k];
  }
  void end_head(int64_t i) {
    if (!any_ || serial()) return;
    double* head = heads_.data() + i * size_;
    for (int64_t k = 0; k < size_; ++k) total_[k] += head[k];
    std::fill_n(head, size_, 0.0);
  }

  void write(const AttentionGradients<E>& gradients) const {
    for (size_t table = 0; table < offsets_.size(); ++table) {
      if (offsets_[table] == kNotWanted) continue;
      RealOf<E>* to = gradients.d_tables[table];
      const double* from = total_.data() + offsets_[table];
      for (int64_t k = 0; k < sizes_[table]; ++k) to[k] = static_cast<RealOf<E>>(from[k]);
    }
  }

 private:
  static constexpr int64_t kNotWanted = -1;
  static constexpr int64_t kLargest = int64_t{1} << 20;  // 8 MB a part

  void point(int64_t i, double* data) {
    const int64_t count = static_cast<int64_t>(offsets_.size());
    for (int64_t table = 0; table < count; ++table) {
      const int64_t at = offsets_[table];
      pointers_[i * count + table] = at == kNotWanted ? nullptr : data + at;
    }
  }

  std::vector<int64_t> offsets_, sizes_;  // of each table in a part, and its elements
  int64_t size_ = 0;                      // of a part
  bool any_ = false;
  std::vector<double> total_, heads_, parts_;
  std::vector<double*> pointers_;
};

}  // namespace heed
