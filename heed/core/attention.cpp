// Dispatch: which kernels run, and how a forward is cut into tasks.
#include "heed/core/attention.h"

#include <algorithm>
#include <cassert>
#include <type_traits>
#include <vector>

#include "heed/core/ahead.h"
#include "heed/core/backward.h"
#include "heed/core/decode.h"
#include "heed/core/heads.h"
#include "heed/core/isa/kernel_sets.h"
#include "heed/core/ref/attention.h"
#include "heed/core/thresholds.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

template <class E>
[[maybe_unused]] bool valid(const AttentionInputs<E>& inputs) {
  const Shape& shape = inputs.shape;
  if (shape.Hkv == 0 ? shape.H != 0 : shape.H % shape.Hkv != 0) return false;
  if (inputs.score == Score::kAdditive && inputs.weight == nullptr && shape.H * shape.D > 0) {
    return false;
  }
  if (inputs.packing.q_offsets != nullptr && inputs.kv_lengths != nullptr) return false;
  for (int64_t b = 0; inputs.kv_lengths != nullptr && b < shape.B; ++b) {
    if (inputs.kv_lengths[b] < 0 || inputs.kv_lengths[b] > shape.S) return false;
  }
  return true;
}

// Each task owns some queries of a head. Elements with at most `decoded` queries are done already.
template <class E>
class Forward {
 public:
  Forward(const KernelSet& set, const AttentionInputs<E>& inputs,
          const AttentionOutputs<E>& outputs, const Thresholds& thresholds, int64_t decoded,
          Executor& executor)
      : set_(set),
        inputs_(inputs),
        outputs_(outputs),
        thresholds_(thresholds),
        executor_(executor),
        finders_(executor.threads()) {
    int64_t tasks = 0;
    for (int64_t b = 0; b < inputs.shape.B; ++b) {
      const HeadInputs head = head_inputs(inputs, b, 0);
      const int64_t queries = set.forward_queries(head);
      const int64_t tiles = head.T <= decoded ? 0 : (head.T + queries - 1) / queries;
      elements_.push_back({tasks, queries, tiles});
      tasks += inputs.shape.H * elements_.back().tiles;
      floats_ = std::max(floats_, set.forward_floats(head, outputs.statistics.top));
    }
    tasks_ = tasks;
  }

  // False: no memory for a workspace.
  bool run() {
    const Workspace workspace(executor_.threads(), floats_);
    if (!workspace.ok()) return false;
    auto task = [&](int64_t index, int thread) { run_task(index, thread, workspace.part(thread)); };
    executor_.parallel(tasks_, task);
    return true;
  }

 private:
  struct Element {
    int64_t first_task, queries, tiles;  // queries of a task; tasks of a head
  };

  ForwardTask task_at(int64_t index) const {
    const auto after = [](int64_t task, const Element& element) {
      return task < element.first_task;
    };
    const auto next = std::upper_bound(elements_.begin(), elements_.end(), index, after);
    const Element& element = *(next - 1);
    const int64_t b = next - 1 - elements_.begin(), own = index - element.first_task;
    const int64_t place = own % element.tiles;
    // Last tile first: under a causal mask it is the longest.
    const int64_t t0 = (element.tiles - 1 - place) * element.queries;
    return {.b = b,
            .h = own / element.tiles,
            .t0 = t0,
            .t1 = std::min(t0 + element.queries, lengths_of(inputs_, b).T),
            .place = place,
            .places = element.tiles};
  }

  void run_task(int64_t index, int thread, float* workspace) {
    const ForwardTask task = task_at(index);
    const auto& [b, h, t0, t1, place, places] = task;
    HeadInputs head = head_inputs(inputs_, b, h, thresholds_.data());
    const HeadOutputs to = head_outputs(inputs_, outputs_, b, h);
    for (int64_t t = t0; to.weights.data != nullptr && t < t1; ++t) {
      std::fill_n(to.weights.data + t * to.weights.stride, inputs_.shape.S, 0.0f);
    }
    const KeySpans spans = finders_[thread].find(inputs_.program, head, t0, t1, 0, head.S);
    const auto later = [&](int64_t other) { return other < tasks_ ? task_at(other) : task; };
    // Not executor_.threads(): within a parallel region of torch's that is 1.
    const auto threads = static_cast<int64_t>(finders_.size());
    Ahead ahead = ahead_of(inputs_, head, to, task, later(index + threads),
                           later(index + places - place), threads);
    head.ahead = &ahead;
    set_.forward(head, to, t0, spans, workspace);
  }

  const KernelSet& set_;
  const AttentionInputs<E>& inputs_;
  const AttentionOutputs<E>& outputs_;
  const Thresholds& thresholds_;
  Executor& executor_;
  std::vector<Element> elements_;
  int64_t tasks_ = 0, floats_ = 0;
  std::vector<SpanFinder> finders_;
};

template <class E>
bool run_forward(const KernelSet& set, const AttentionInputs<E>& inputs,
                 const AttentionOutputs<E>& outputs, Executor& executor) {
  const Shape& shape = inputs.shape;
  if (shape.B * shape.H * shape.T == 0) return true;
  const int64_t decoded = decoded_queries(set, inputs, outputs);
  if (decoded > 0 && !run_decode(set, inputs, outputs, executor)) return false;
  const Thresholds thresholds(set, inputs, executor);
  return Forward<E>(set, inputs, outputs, thresholds, decoded, executor).run();
}

}  // namespace

template <class E>
void attention_forward(const AttentionInputs<E>& inputs, const AttentionOutputs<E>& outputs,
                       Executor& executor) {
  assert(valid(inputs));
  if constexpr (!std::is_same_v<E, double>) {
    const KernelSet* set = kernels_in_use();
    if (set != nullptr && run_forward(*set, inputs, outputs, executor)) return;
  }
  ref::attention_forward(inputs, outputs, executor);
}

template <class E>
void attention_backward(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients,
                        Executor& executor) {
  assert(valid(inputs));
  if constexpr (!std::is_same_v<E, double>) {
    const KernelSet* set = kernels_in_use();
    // Without query heads no kernel runs: the reference writes the zeros of d_k and d_v.
    const bool idle = inputs.shape.H == 0;
    if (set != nullptr && !idle && run_backward(*set, inputs, gradients, executor)) return;
  }
  ref::attention_backward(inputs, gradients, executor);
}

#define HEED_DEFINE(E)                                                                      \
  template void attention_forward(const AttentionInputs<E>&, const AttentionOutputs<E>&,    \
                                  Executor&);                                               \
  template void attention_backward(const AttentionInputs<E>&, const AttentionGradients<E>&, \
                                   Executor&);
HEED_FOR_ELEMENTS(HEED_DEFINE)
#undef HEED_DEFINE

}  // namespace heed
