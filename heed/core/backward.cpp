// Backward in units: one key head and one chunk of its keys, which own those rows of d_k and d_v.
//
// d_q is the sum of the chunks' parts in order: either one task runs a head's chunks one after the
// other, or, where heads are fewer than threads, rounds of units run at once, each with a part of
// its own, which are then added in the same order. So bits depend on neither threads nor batch.
// Tables' gradients are summed likewise (table_gradients.h).
#include "heed/core/backward.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>
#include <vector>

#include "heed/core/heads.h"
#include "heed/core/table_gradients.h"
#include "heed/core/thresholds.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

template <class E>
class Backward {
 public:
  Backward(const KernelSet& set, const AttentionInputs<E>& inputs,
           const AttentionGradients<E>& gradients, Executor& executor)
      : set_(set),
        inputs_(inputs),
        gradients_(gradients),
        executor_(executor),
        shape_(inputs.shape),
        group_(shape_.group()),
        thresholds_(set, inputs, executor),
        tables_(inputs, gradients),
        finders_(executor.threads()) {
    for (int64_t b = 0; b < shape_.B; ++b) {
      const HeadInputs head = head_inputs(inputs, b, 0);
      const int64_t keys = set.backward_keys(head);
      floats_ = std::max(floats_, set.backward_floats(head));
      for (int64_t kv_head = 0; kv_head < shape_.Hkv; ++kv_head) {
        heads_.push_back(static_cast<int64_t>(units_.size()));
        // A head without keys is one empty chunk.
        for (int64_t begin = 0; begin == 0 || begin < head.S; begin += keys) {
          units_.push_back({b, kv_head, begin, std::min(begin + keys, head.S)});
        }
      }
    }
    heads_.push_back(static_cast<int64_t>(units_.size()));
  }

  // False: no memory.
  bool run() {
    const bool additive = score_of(inputs_) == Score::kAdditive;
    const Workspace weights(additive ? units() : 0, group_ * shape_.D);
    if (!weights.ok() || !make_d_q()) return false;
    weights_ = additive ? &weights : nullptr;
    tables_.begin(executor_);
    if (units() > 0 && !run_units()) return false;
    if (!std::is_same_v<E, float>) write_d_q();
    if (gradients_.d_weight != nullptr) write_weight_gradients();
    if (gradients_.d_sinks != nullptr) write_sink_gradients();
    tables_.write();
    return true;
  }

 private:
  using Sum = typename TableGradients<E>::Sum;

  // A chunk of the keys of a key head.
  struct Unit {
    int64_t b, kv_head, begin, end;
  };

  int64_t units() const { return static_cast<int64_t>(units_.size()); }
  int64_t heads() const { return shape_.B * shape_.Hkv; }
  int64_t q_floats() const { return group_ * shape_.T * shape_.D; }
  int64_t rows_of(int64_t b) const { return lengths_of(inputs_, b).T; }

  // d_q is summed in floats: in place, or beside the halves that it is rounded to at the end.
  bool make_d_q() {
    if constexpr (std::is_same_v<E, float>) {
      d_q_ = gradients_.d_q;
      return true;
    } else {
      wide_d_q_ = std::make_unique<Workspace>(1, total_rows(inputs_) * shape_.D);
      if (!wide_d_q_->ok()) return false;
      const int64_t D = shape_.D;
      const bool packed = inputs_.packing.q_offsets != nullptr;
      const int64_t T = packed ? inputs_.packing.q_offsets[shape_.B] : shape_.T;
      d_q_ = {.data = wide_d_q_->part(0),
              .stride_b = packed ? 0 : shape_.H * T * D,
              .stride_h = T * D,
              .stride_t = D};
      return true;
    }
  }

  void write_d_q() const {
    auto head = [&](int64_t index, int) {
      const int64_t b = index / shape_.H, h = index % shape_.H;
      const MutableRows to = rows(gradients_.d_q, b, h, inputs_.packing.q_offsets);
      const MutableRows from = rows(d_q_, b, h, inputs_.packing.q_offsets);
      for (int64_t t = 0; t < rows_of(b); ++t) {
        E* row = static_cast<E*>(to.data) + t * to.stride;
        const float* wide = static_cast<const float*>(from.data) + t * from.stride;
        for (int64_t d = 0; d < shape_.D; ++d) ref::from_double(wide[d], row[d]);
      }
    };
    executor_.parallel(shape_.B * shape_.H, head);
  }

  bool run_units() {
    const Workspace workspace(executor_.threads(), floats_);
    if (!workspace.ok()) return false;
    workspace_ = &workspace;
    const int threads = executor_.threads();
    if (tables_.serial()) {
      SerialExecutor serial;
      run_by_head(serial);
      return true;
    }
    const bool few = units() > heads() && heads() < 2 * threads;
    if (threads > 1 && few && tables_.parallel_chunks()) return run_in_rounds();
    run_by_head(executor_);
    return true;
  }

  // Rounds of heads where they share tables: as many sums as a round has heads are held at once.
  void run_by_head(Executor& executor) {
    using Parts = typename TableGradients<E>::Parts;
    const bool owned = tables_.owned();
    const int64_t round = owned ? heads() : 2 * executor.threads();
    tables_.reserve(owned ? executor.threads() : round,
                    units() > heads() ? Parts::kAll : Parts::kNone);
    for (int64_t first = 0; first < heads(); first += round) {
      const int64_t count = std::min(round, heads() - first);
      auto head = [&](int64_t index, int thread) {
        const int64_t begin = heads_[first + index], end = heads_[first + index + 1];
        const int64_t place = owned ? thread : index;
        zero_d_q(first + index);
        for (int64_t unit = begin; unit < end; ++unit) {
          run_unit(unit, {place, unit == begin ? Sum::kHead : Sum::kPart, nullptr, thread});
          if (unit != begin) tables_.end_chunk(place);
        }
        if (owned) end_head(place, first + index);
      };
      executor.parallel(count, head);
      for (int64_t index = 0; !owned && index < count; ++index) end_head(index, first + index);
    }
  }

  bool run_in_rounds() {
    const int64_t round = std::min<int64_t>(units(), 2 * executor_.threads());
    const Workspace parts(round, q_floats());
    if (!parts.ok()) return false;
    tables_.reserve(round, TableGradients<E>::Parts::kAll);
    auto zero = [&](int64_t head, int) { zero_d_q(head); };
    executor_.parallel(heads(), zero);
    for (int64_t first = 0; first < units(); first += round) {
      const int64_t count = std::min(round, units() - first);
      auto unit = [&](int64_t index, int thread) {
        zero_part(first + index, parts.part(index));
        run_unit(first + index, {index, Sum::kPart, parts.part(index), thread});
      };
      executor_.parallel(count, unit);
      auto add = [&](int64_t row, int) {
        for (int64_t i = 0; i < count; ++i) add_d_q_row(first + i, row, parts.part(i));
      };
      executor_.parallel(group_ * shape_.T, add);
      for (int64_t i = 0; i < count; ++i) {
        const Unit& done = units_[first + i];
        tables_.end_chunk_of_first(i);
        if (done.end >= last_key(first + i)) end_head(0, done.b * shape_.Hkv + done.kv_head);
      }
    }
    return true;
  }

  void end_head(int64_t index, int64_t head) {
    tables_.end_head(index, head / shape_.Hkv, head % shape_.Hkv);
  }

  // The queries that the band lets see some of a unit's keys: of its part only they are touched.
  struct Queries {
    int64_t begin, end;
  };
  Queries queries_of(const Unit& unit) const {
    const Band band = band_of(inputs_, unit.b);  // no head's own is wider
    const int64_t begin = std::max<int64_t>(0, unit.begin - band.right);
    return {begin, std::max(begin, std::min(rows_of(unit.b), unit.end - band.left))};
  }
  void zero_part(int64_t index, float* part) const {
    const Queries queries = queries_of(units_[index]);
    for (int64_t g = 0; g < group_; ++g) {
      std::fill_n(part + (g * shape_.T + queries.begin) * shape_.D,
                  (queries.end - queries.begin) * shape_.D, 0.0f);
    }
  }

  // The end of the keys of a unit's head.
  int64_t last_key(int64_t unit) const {
    const int64_t head = units_[unit].b * shape_.Hkv + units_[unit].kv_head;
    return units_[heads_[head + 1] - 1].end;
  }

  // Where a unit, one of those that run at once, adds its gradients.
  struct Place {
    int64_t index;  // of the tables' sums
    Sum tables;
    float* d_q;  // [group, T, D], or null: d_q itself
    int thread;
  };

  void run_unit(int64_t index, const Place& place) {
    const Unit& unit = units_[index];
    const int64_t* offsets = inputs_.packing.k_offsets;
    if (weights_ != nullptr) std::fill_n(weights_->part(index), group_ * shape_.D, 0.0f);
    KeyChunk chunk = {.begin = unit.begin,
                      .end = unit.end,
                      .d_k = rows(gradients_.d_k, unit.b, unit.kv_head, offsets),
                      .d_v = rows(gradients_.d_v, unit.b, unit.kv_head, offsets),
                      .first_head = true,
                      .last_head = group_ == 1};
    advance(chunk.d_k, unit.begin);
    advance(chunk.d_v, unit.begin);
    for (int64_t g = 0; g < group_; ++g) {
      chunk.first_head = g == 0;
      chunk.last_head = g == group_ - 1;
      const int64_t h = unit.kv_head * group_ + g;
      run_head(unit.b, h, chunk, head_gradients(index, g, place), place.thread);
    }
  }

  static void advance(MutableRows& rows, int64_t n) {
    if (rows.data != nullptr) rows.data = static_cast<E*>(rows.data) + n * rows.stride;
  }

  HeadGradients head_gradients(int64_t unit, int64_t g, const Place& place) {
    const int64_t b = units_[unit].b, h = units_[unit].kv_head * group_ + g;
    const int64_t row = first_row(inputs_, b, h);
    const int64_t* offsets = inputs_.packing.q_offsets;
    const MutableRows d_q = rows(d_q_, b, h, offsets);
    HeadGradients to = {
        .out = rows(gradients_.out, b, h, offsets),
        .d_out = rows(gradients_.d_out, b, h, offsets),
        .lse = gradients_.lse + row,
        .d_lse = gradients_.d_lse == nullptr ? nullptr : gradients_.d_lse + row,
        .d_q = {static_cast<float*>(d_q.data), d_q.stride},
        .d_weight = weights_ == nullptr ? nullptr : weights_->part(unit) + g * shape_.D,
        .d_tables = tables_.targets(place.index, b, h, place.tables),
    };
    if (place.d_q != nullptr) to.d_q = {place.d_q + g * shape_.T * shape_.D, shape_.D};
    return to;
  }

  void run_head(int64_t b, int64_t h, const KeyChunk& chunk, const HeadGradients& to, int thread) {
    const HeadInputs head = head_inputs(inputs_, b, h, thresholds_.data());
    float* workspace = workspace_->part(thread);
    const int64_t queries = set_.backward_queries(head);
    set_.backward_begin(head, to, chunk, workspace);
    for (int64_t t0 = 0; t0 < head.T; t0 += queries) {
      const int64_t t1 = std::min(t0 + queries, head.T);
      const KeySpans spans =
          finders_[thread].find(inputs_.program, head, t0, t1, chunk.begin, chunk.end);
      if (spans.count > 0) set_.backward(head, to, chunk, t0, spans, workspace);
    }
    if (chunk.last_head) set_.backward_end(head, to, chunk, workspace);
  }

  // Sums start at +0, so that adding a part's zeros never changes a bit.
  void zero_d_q(int64_t head) const {
    const int64_t rows = group_ * rows_of(head / shape_.Hkv);
    for (int64_t row = 0; row < rows; ++row) std::fill_n(d_q_row(head, row), shape_.D, 0.0f);
  }
  // Rows of the group's heads, one head after the other.
  float* d_q_row(int64_t head, int64_t row) const {
    const int64_t b = head / shape_.Hkv, kv_head = head % shape_.Hkv, T = rows_of(b);
    const int64_t* offsets = inputs_.packing.q_offsets;
    const int64_t first = offsets == nullptr ? 0 : offsets[b];
    return d_q_.row(b, kv_head * group_ + row / T, first + row % T);
  }
  // `row` of a part, whose heads are shape.T rows apart.
  void add_d_q_row(int64_t unit, int64_t row, const float* part) const {
    const int64_t b = units_[unit].b, T = rows_of(b);
    const int64_t g = row / shape_.T, t = row % shape_.T;
    const Queries queries = queries_of(units_[unit]);
    if (t < queries.begin || t >= queries.end) return;
    float* d_q = d_q_row(b * shape_.Hkv + units_[unit].kv_head, g * T + t);
    const float* from = part + row * shape_.D;
    for (int64_t d = 0; d < shape_.D; ++d) d_q[d] += from[d];
  }

  void write_weight_gradients() const {
    auto head = [&](int64_t h, int) {
      float* d_weight = gradients_.d_weight + h * shape_.D;
      std::fill_n(d_weight, shape_.D, 0.0f);
      for (int64_t unit = 0; weights_ != nullptr && unit < units(); ++unit) {
        if (units_[unit].kv_head != h / group_) continue;
        const float* from = weights_->part(unit) + h % group_ * shape_.D;
        for (int64_t d = 0; d < shape_.D; ++d) d_weight[d] += from[d];
      }
    };
    executor_.parallel(shape_.H, head);
  }

  // A sink is a key with weight exp(sink - lse) and no value: d score = -weight * delta.
  void write_sink_gradients() const {
    auto head = [&](int64_t h, int) {
      double sum = 0;
      for (int64_t b = 0; b < shape_.B; ++b) {
        for (int64_t t = 0; t < rows_of(b); ++t) sum += sink_gradient(b, h, t);
      }
      gradients_.d_sinks[h] = static_cast<float>(sum);
    };
    executor_.parallel(shape_.H, head);
  }
  double sink_gradient(int64_t b, int64_t h, int64_t t) const {
    const int64_t row = first_row(inputs_, b, h) + t;
    const double weight = std::exp(ref::to_double(inputs_.sinks[h]) - gradients_.lse[row]);
    if (!(weight > 0)) return 0;  // a sink of -inf
    const int64_t* offsets = inputs_.packing.q_offsets;
    const int64_t first = offsets == nullptr ? 0 : offsets[b];
    const E *out = gradients_.out.row(b, h, first + t),
            *d_out = gradients_.d_out.row(b, h, first + t);
    double delta = gradients_.d_lse == nullptr ? 0 : -gradients_.d_lse[row];
    for (int64_t d = 0; d < shape_.Dv; ++d)
      delta += ref::to_double(out[d]) * ref::to_double(d_out[d]);
    return -weight * delta;
  }

  const KernelSet& set_;
  const AttentionInputs<E>& inputs_;
  const AttentionGradients<E>& gradients_;
  Executor& executor_;
  const Shape& shape_;
  const int64_t group_;
  std::vector<Unit> units_;     // by element, key head and chunk
  std::vector<int64_t> heads_;  // the first unit of each key head, and the end
  int64_t floats_ = 0;
  const Thresholds thresholds_;
  TableGradients<E> tables_;
  std::vector<SpanFinder> finders_;
  View<float> d_q_;
  std::unique_ptr<Workspace> wide_d_q_;
  const Workspace* workspace_ = nullptr;
  const Workspace* weights_ = nullptr;
};

}  // namespace

template <class E>
bool run_backward(const KernelSet& set, const AttentionInputs<E>& inputs,
                  const AttentionGradients<E>& gradients, Executor& executor) {
  return Backward<E>(set, inputs, gradients, executor).run();
}

template bool run_backward(const KernelSet&, const AttentionInputs<float>&,
                           const AttentionGradients<float>&, Executor&);
template bool run_backward(const KernelSet&, const AttentionInputs<BFloat16>&,
                           const AttentionGradients<BFloat16>&, Executor&);
template bool run_backward(const KernelSet&, const AttentionInputs<Float16>&,
                           const AttentionGradients<Float16>&, Executor&);

}  // namespace heed
