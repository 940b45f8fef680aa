// Dispatch: which kernels run, and how a call is cut into tasks.
//
// How a result is summed depends on its own shape alone, never on threads or the batch: each task
// owns its outputs, and what several tasks add to is kept apart and added up in a fixed order.
#include "heed/core/attention.h"

#include <algorithm>
#include <cassert>

#include "heed/core/isa.h"
#include "heed/core/isa/kernels.h"
#include "heed/core/ref/attention.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

using Inputs = AttentionInputs<float>;
using Outputs = AttentionOutputs<float>;
using Gradients = AttentionGradients<float>;

// Null: the reference.
const KernelSet* kernels_in_use() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kV2:
      return kernels_v2();
    case Isa::kV3:
      return kernels_v3();
    case Isa::kV4:
      return kernels_v4();
    case Isa::kRef:
      break;
  }
#endif
  return nullptr;
}

[[maybe_unused]] bool valid(const Inputs& inputs) {
  const Shape& shape = inputs.shape;
  if (shape.Hkv == 0 ? shape.H != 0 : shape.H % shape.Hkv != 0) return false;
  if (inputs.score == Score::kAdditive && inputs.weight == nullptr && shape.H * shape.D > 0) {
    return false;
  }
  for (int64_t b = 0; inputs.kv_lengths != nullptr && b < shape.B; ++b) {
    if (inputs.kv_lengths[b] < 0 || inputs.kv_lengths[b] > shape.S) return false;
  }
  return true;
}

// A null view has no rows to point at.
Rows rows(const View<const float>& view, int64_t b, int64_t h) {
  return {view ? view.row(b, h, 0) : nullptr, view.stride_t};
}
MutableRows rows(const View<float>& view, int64_t b, int64_t h) {
  return {view ? view.row(b, h, 0) : nullptr, view.stride_t};
}

HeadInputs head_inputs(const Inputs& inputs, int64_t b, int64_t h) {
  const Shape& shape = inputs.shape;
  const int64_t kv_head = h / shape.group();
  return {
      .T = shape.T,
      .S = shape.S,
      .D = shape.D,
      .Dv = shape.Dv,
      .score = inputs.score,
      .scale = inputs.scale,
      .visible = visible_of(inputs, b),
      .q = rows(inputs.q, b, h),
      .k = rows(inputs.k, b, kv_head),
      .v = rows(inputs.v, b, kv_head),
      .weight = inputs.weight == nullptr ? nullptr : inputs.weight + h * shape.D,
  };
}

HeadOutputs head_outputs(const Shape& shape, const Outputs& outputs, int64_t b, int64_t h) {
  return {
      .out = rows(outputs.out, b, h),
      .lse = outputs.lse + (b * shape.H + h) * shape.T,
      .weights = rows(outputs.weights, b, h),
  };
}

// False: no memory for a workspace.
bool forward(const KernelSet& set, const Inputs& inputs, const Outputs& outputs,
             Executor& executor) {
  const Shape& shape = inputs.shape;
  if (shape.B * shape.H * shape.T == 0) return true;
  const HeadInputs any = head_inputs(inputs, 0, 0);
  const int64_t queries = set.forward_queries(any);
  const int64_t tiles = (shape.T + queries - 1) / queries;
  const Workspace workspace(executor.threads(), set.forward_floats(any));
  if (!workspace.ok()) return false;
  auto tile = [&](int64_t index, int thread) {
    const int64_t head = index / tiles, b = head / shape.H, h = head % shape.H;
    // Last tile first: under a causal mask it is the longest.
    const int64_t t = (tiles - 1 - index % tiles) * queries;
    set.forward(head_inputs(inputs, b, h), head_outputs(shape, outputs, b, h), t,
                workspace.part(thread));
  };
  executor.parallel(shape.B * shape.H * tiles, tile);
  return true;
}

// Backward in units: one key head and one chunk of its keys, which own those rows of d_k and d_v.
// d_q is the sum of the chunks' parts in order: either one task runs a head's chunks one after the
// other, or, where heads are fewer than threads, rounds of units run at once, each with a part of its
// own, which are then added in the same order.
class Backward {
 public:
  Backward(const KernelSet& set, const Inputs& inputs, const Gradients& gradients,
           Executor& executor)
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
  const Inputs& inputs_;
  const Gradients& gradients_;
  Executor& executor_;
  const Shape& shape_;
  const int64_t group_, heads_, chunk_keys_, chunks_;
  const Workspace* workspace_ = nullptr;
  const Workspace* weights_ = nullptr;
};

}  // namespace

void attention_forward(const AttentionInputs<float>& inputs, const AttentionOutputs<float>& outputs,
                       Executor& executor) {
  assert(valid(inputs));
  const KernelSet* set = kernels_in_use();
  if (set == nullptr || !forward(*set, inputs, outputs, executor)) {
    ref::attention_forward(inputs, outputs, executor);
  }
}

void attention_backward(const AttentionInputs<float>& inputs,
                        const AttentionGradients<float>& gradients, Executor& executor) {
  assert(valid(inputs));
  const KernelSet* set = kernels_in_use();
  if (set == nullptr || !Backward(*set, inputs, gradients, executor).run()) {
    ref::attention_backward(inputs, gradients, executor);
  }
}

void attention_forward(const AttentionInputs<double>& inputs,
                       const AttentionOutputs<double>& outputs, Executor& executor) {
  ref::attention_forward(inputs, outputs, executor);
}

void attention_backward(const AttentionInputs<double>& inputs,
                        const AttentionGradients<double>& gradients, Executor& executor) {
  ref::attention_backward(inputs, gradients, executor);
}

}  // namespace heed
