// Dispatch: which kernels run, and how a forward is cut into tasks.
#include "heed/core/attention.h"

#include <cassert>

#include "heed/core/backward.h"
#include "heed/core/heads.h"
#include "heed/core/isa.h"
#include "heed/core/isa/kernels.h"
#include "heed/core/ref/attention.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

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

[[maybe_unused]] bool valid(const AttentionInputs<float>& inputs) {
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

// Each task owns a tile of queries. False: no memory for a workspace.
bool run_forward(const KernelSet& set, const AttentionInputs<float>& inputs,
                 const AttentionOutputs<float>& outputs, Executor& executor) {
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

}  // namespace

void attention_forward(const AttentionInputs<float>& inputs, const AttentionOutputs<float>& outputs,
                       Executor& executor) {
  assert(valid(inputs));
  const KernelSet* set = kernels_in_use();
  if (set == nullptr || !run_forward(*set, inputs, outputs, executor)) {
    ref::attention_forward(inputs, outputs, executor);
  }
}

void attention_backward(const AttentionInputs<float>& inputs,
                        const AttentionGradients<float>& gradients, Executor& executor) {
  assert(valid(inputs));
  const KernelSet* set = kernels_in_use();
  // Without query heads no kernel runs: the reference writes the zeros of d_k and d_v.
  const bool idle = inputs.shape.H == 0;
  if (set == nullptr || idle || !run_backward(*set, inputs, gradients, executor)) {
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
