// Backward in units: one key head and one chunk of its keys, which own those rows of d_k and d_v.
//
// d_q is the sum of the chunks' parts in order: either one task runs a head's chunks one after the
// other, or, where heads are fewer than threads, rounds of units run at once, each with a part of
// its own, which are then added in the same order. So bits depend on neither threads nor batch.
#include "heed/core/backward.h"

#include <algorithm>

#include "heed/core/heads.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

class Backward {
 public:
  Backward(const KernelSet& set, const AttentionInputs<float>& inputs,
           const AttentionGradients<float>& gradients, Executor& executor)
      : set_(set),
        inputs_(inputs),
        gradients_(gradients),
        executor_(executor),
        shape_(inputs.shape),
        group_(shape_.group()),
        heads_(shape_.B * shape_.Hkv),
        chunk_keys_(heads_ == 0 ? 1 : set.backward_keys(head_inputs(inputs, 0, 0))),
        // A head without keys is one empty chunk: its d_q is written all the same.
        chunks_(shape_.S == 0 ? 1 : (shape_.S + chunk_keys_ - 1) / chunk_keys_) {}

  // False: no memory.
  bool run() {
    const bool additive = inputs_.score == Score::kAdditive;
    const Workspace weights(additive ? heads_ * chunks_ : 0, group_ * shape_.D);
    if (!weights.ok()) return false;
    weights_ = additive ? &weights : nullptr;
    if (heads_ > 0 && !run_units()) return false;
    if (additive) add_weight_gradients();
    return true;
  }

 private:
  int64_t q_floats() const { return group_ * shape_.T * shape_.D; }

  bool run_units() {
    const Workspace workspace(executor_.threads(),
                              set_.backward_floats(head_inputs(inputs_, 0, 0)));
    if (!workspace.ok()) return false;
    workspace_ = &workspace;
    const int threads = executor_.threads();
    if (threads > 1 && chunks_ > 1 && heads_ < 2 * threads) return run_in_rounds();
    run_by_head();
    return true;
  }

  void run_by_head() {
    auto head = [&](int64_t index, int thread) {
      zero_d_q(index);
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        run_unit(index * chunks_ + chunk, nullptr, thread);
      }
    };
    executor_.parallel(heads_, head);
  }

  bool run_in_rounds() {
    const int64_t units = heads_ * chunks_;
    const int64_t round = std::min<int64_t>(units, 2 * executor_.threads());
    const Workspace parts(round, q_floats());
    if (!parts.ok()) return false;
    auto zero = [&](int64_t head, int) { zero_d_q(head); };
    executor_.parallel(heads_, zero);
    for (int64_t first = 0; first < units; first += round) {
      const int64_t count = std::min(round, units - first);
      auto unit = [&](int64_t index, int thread) {
        std::fill_n(parts.part(index), q_floats(), 0.0f);
        run_unit(first + index, parts.part(index), thread);
      };
      executor_.parallel(count, unit);
      auto add = [&](int64_t row, int) {
        for (int64_t i = 0; i < count; ++i) add_d_q_row(first + i, row, parts.part(i));
      };
      executor_.parallel(group_ * shape_.T, add);
    }
    return true;
  }

  // Adds the unit's gradients to `part` [group, T, D], or to d_q itself where null.
  void run_unit(int64_t unit, float* part, int thread) const {
    const int64_t b = unit / chunks_ / shape_.Hkv, kv_head = unit / chunks_ % shape_.Hkv;
    const int64_t begin = unit % chunks_ * chunk_keys_;
    KeyChunk chunk = {.begin = begin,
                      .end = std::min(begin + chunk_keys_, shape_.S),
                      .d_k = rows(gradients_.d_k, b, kv_head),
                      .d_v = rows(gradients_.d_v, b, kv_head),
                      .first_head = true,
                      .last_head = group_ == 1};
    if (chunk.d_k.data != nullptr) chunk.d_k.data += begin * chunk.d_k.stride;
    if (chunk.d_v.data != nullptr) chunk.d_v.data += begin * chunk.d_v.stride;
    if (weights_ != nullptr) std::fill_n(weights_->part(unit), group_ * shape_.D, 0.0f);
    for (int64_t g = 0; g < group_; ++g) {
      const int64_t h = kv_head * group_ + g, row = (b * shape_.H + h) * shape_.T;
      HeadGradients to = {
          .out = rows(gradients_.out, b, h),
          .d_out = rows(gradients_.d_out, b, h),
          .lse = gradients_.lse + row,
          .d_lse = gradients_.d_lse == nullptr ? nullptr : gradients_.d_lse + row,
          .d_q = rows(gradients_.d_q, b, h),
          .d_weight = weights_ == nullptr ? nullptr : weights_->part(unit) + g * shape_.D,
      };
      if (part != nullptr) to.d_q = {part + g * shape_.T * shape_.D, shape_.D};
      chunk.first_head = g == 0;
      chunk.last_head = g == group_ - 1;
      set_.backward(head_inputs(inputs_, b, h), to, chunk, workspace_->part(thread));
    }
  }

  // Sums start at +0, so that adding a part's zeros never changes a bit.
  void zero_d_q(int64_t head) const {
    const bool dense = gradients_.d_q.stride_t == shape_.D;
    const int64_t rows_at_once = dense ? shape_.T : 1;
    for (int64_t row = 0; row < group_ * shape_.T; row += rows_at_once) {
      std::fill_n(d_q_row(head, row), rows_at_once * shape_.D, 0.0f);
    }
  }
  float* d_q_row(int64_t head, int64_t row) const {
    const int64_t b = head / shape_.Hkv, kv_head = head % shape_.Hkv;
    return gradients_.d_q.row(b, kv_head * group_ + row / shape_.T, row % shape_.T);
  }
  void add_d_q_row(int64_t unit, int64_t row, const float* part) const {
    float* d_q = d_q_row(unit / chunks_, row);
    const float* from = part + row * shape_.D;
    for (int64_t d = 0; d < shape_.D; ++d) d_q[d] += from[d];
  }

  void add_weight_gradients() const {
    auto head = [&](int64_t h, int) {
      float* d_weight = gradients_.d_weight + h * shape_.D;
      std::fill_n(d_weight, shape_.D, 0.0f);
      for (int64_t b = 0; b < shape_.B; ++b) {
        for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
          const int64_t unit = (b * shape_.Hkv + h / group_) * chunks_ + chunk;
          const float* from = weights_->part(unit) + h % group_ * shape_.D;
          for (int64_t d = 0; d < shape_.D; ++d) d_weight[d] += from[d];
        }
      }
    };
    executor_.parallel(shape_.H, head);
  }

  const KernelSet& set_;
  const AttentionInputs<float>& inputs_;
  const AttentionGradients<float>& gradients_;
  Executor& executor_;
  const Shape& shape_;
  const int64_t group_, heads_, chunk_keys_, chunks_;
  const Workspace* workspace_ = nullptr;
  const Workspace* weights_ = nullptr;
};

}  // namespace

bool run_backward(const KernelSet& set, const AttentionInputs<float>& inputs,
                  const AttentionGradients<float>& gradients, Executor& executor) {
  return Backward(set, inputs, gradients, executor).run();
}

}  // namespace heed
