// Linear attention in tasks. A pass has givers and takers (linear_kernels.h), both cut into blocks
// of a size that the shape alone decides; each block's givers give to a state of their own, and
// these are merged in the order of the pass. So bits depend on neither threads nor batch, whether
// one task runs a head from end to end or many share it.
#include "heed/core/linear_attention.h"

#include <algorithm>
#include <cassert>

#include "heed/core/isa.h"
#include "heed/core/isa/linear_kernels.h"
#include "heed/core/ref/linear_attention.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

// Null: the reference.
const LinearKernels* kernels_in_use() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kRef:
      return nullptr;
    case Isa::kV2:
      return linear_kernels_v2();
    case Isa::kV3:
      return linear_kernels_v3();
    default:
      return linear_kernels_v4();
  }
#endif
  return nullptr;
}

// One head as seen by kernels: `group` query heads from `h` on, or one key head.
template <class Element>
LinearRows rows(const View<const Element>& view, int64_t b, int64_t h) {
  if (!view) return {};
  return {view.row(b, h, 0), view.stride_h, view.stride_t};
}
template <class Element>
LinearMutableRows rows(const View<Element>& view, int64_t b, int64_t h) {
  if (!view) return {};
  return {view.row(b, h, 0), view.stride_h, view.stride_t};
}

// A whole call: its heads, and what a head's kernels take.
class Call {
 public:
  virtual ~Call() = default;
  virtual LinearHead head(int64_t index) const = 0;
};

// One pass over all heads.
class Pass {
 public:
  Pass(const LinearKernels& kernels, const Call& call, LinearPass pass, int64_t heads,
       const Workspace& frames, Executor& executor)
      : kernels_(kernels),
        call_(call),
        pass_(pass),
        heads_(heads),
        frames_(frames),
        executor_(executor),
        any_(call.head(0)),
        rows_(kernels.block_rows(any_)),
        state_floats_(kernels.state_floats(any_, pass)) {}

  // False: no memory.
  bool run() {
    const Workspace workspace(executor_.threads(), kernels_.workspace_floats(any_));
    if (!workspace.ok()) return false;
    workspace_ = &workspace;
    return heads_fill_threads() ? run_by_head() : run_by_block();
  }

 private:
  bool keys_give() const { return pass_ != LinearPass::kKeyGradients; }
  int64_t blocks_of(int64_t rows) const { return (rows + rows_ - 1) / rows_; }
  int64_t giver_rows() const { return any_.causal || !keys_give() ? any_.T : any_.S; }
  int64_t taker_rows() const { return any_.causal || keys_give() ? any_.T : any_.S; }

  // Sharing a causal head costs a third more work, so it takes idle threads to pay.
  bool heads_fill_threads() const {
    const int64_t threads = executor_.threads();
    const int64_t rounds = (heads_ + threads - 1) / threads;
    if (threads == 1 || std::max(blocks_of(giver_rows()), blocks_of(taker_rows())) == 1) {
      return true;
    }
    return 3 * heads_ >= 2 * rounds * threads;
  }

  // The n-th block of the pass over so many rows.
  LinearBlock block(int64_t head, int64_t n, int64_t rows) const {
    const int64_t index = any_.causal && !keys_give() ? blocks_of(rows) - 1 - n : n;
    const float* frame = nullptr;
    if (any_.map == FeatureMap::kExp) {
      frame = frames_.part(head) + (any_.causal ? index : 0) * kernels_.frame_floats(any_);
    }
    return {index * rows_, std::min((index + 1) * rows_, rows), frame};
  }

  void zero(float* state) const { std::fill_n(state, state_floats_, 0.0f); }
  void copy(const float* from, float* to) const { std::copy_n(from, state_floats_, to); }

  bool run_by_head() {
    const Workspace states(executor_.threads(), 3 * part_floats());
    if (!states.ok()) return false;
    auto run = [&](int64_t index, int thread) {
      float* const total = states.part(thread);
      run_head(index, total, total + part_floats(), total + 2 * part_floats(),
               workspace_->part(thread));
    };
    executor_.parallel(heads_, run);
    return true;
  }

  void run_head(int64_t index, float* total, float* own, float* running, float* scratch) const {
    const LinearHead head = call_.head(index);
    zero(total);
    for (int64_t n = 0; n < blocks_of(giver_rows()); ++n) {
      const LinearBlock rows = block(index, n, giver_rows());
      zero(own);
      if (head.causal) {
        copy(total, running);
        kernels_.run(head, pass_, LinearPart::kBoth, rows, running, own, scratch);
      } else {
        kernels_.run(head, pass_, LinearPart::kGive, rows, own, nullptr, scratch);
      }
      kernels_.merge(head, pass_, total, own);
    }
    for (int64_t n = 0; n < blocks_of(taker_rows()) && !head.causal; ++n) {
      const LinearBlock rows = block(index, n, taker_rows());
      kernels_.run(head, pass_, LinearPart::kTake, rows, total, nullptr, scratch);
    }
  }

  bool run_by_block() {
    const int64_t givers = blocks_of(giver_rows()), takers = blocks_of(taker_rows());
    // Of each head: its blocks' states, then two to merge with.
    const Workspace states(heads_, (givers + 2) * part_floats());
    if (!states.ok()) return false;
    auto state = [&](int64_t index, int64_t n) { return states.part(index) + n * part_floats(); };
    auto give = [&](int64_t task, int thread) {
      const int64_t index = task / givers, n = task % givers;
      zero(state(index, n));
      kernels_.run(call_.head(index), pass_, LinearPart::kGive, block(index, n, giver_rows()),
                   state(index, n), nullptr, workspace_->part(thread));
    };
    executor_.parallel(heads_ * givers, give);
    auto merge = [&](int64_t index, int) { merge_head(index, state(index, 0), givers); };
    executor_.parallel(heads_, merge);
    auto take = [&](int64_t task, int thread) {
      const int64_t index = task / takers, n = task % takers;
      kernels_.run(call_.head(index), pass_, any_.causal ? LinearPart::kBoth : LinearPart::kTake,
                   block(index, n, taker_rows()), state(index, any_.causal ? n : 0), nullptr,
                   workspace_->part(thread));
    };
    executor_.parallel(heads_ * takers, take);
    return true;
  }

  // Each state becomes the sum of those before it; without a mask the first becomes that of all.
  void merge_head(int64_t index, float* states, int64_t givers) const {
    const LinearHead head = call_.head(index);
    float* const total = states + givers * part_floats();
    float* const own = total + part_floats();
    zero(total);
    for (int64_t n = 0; n < givers; ++n) {
      float* const state = states + n * part_floats();
      copy(state, own);
      copy(total, state);
      kernels_.merge(head, pass_, total, own);
    }
    if (!head.causal) copy(total, states);
  }

  int64_t part_floats() const { return (state_floats_ + 15) / 16 * 16; }

  const LinearKernels& kernels_;
  const Call& call_;
  const LinearPass pass_;
  const int64_t heads_;
  const Workspace& frames_;
  Executor& executor_;
  const LinearHead any_;
  const int64_t rows_, state_floats_;
  const Workspace* workspace_ = nullptr;
};

// The passes of a call, one after another. False: no memory.
bool run_passes(const LinearKernels& kernels, const Call& call, int64_t heads,
                std::initializer_list<LinearPass> passes, Executor& executor) {
  const LinearHead any = call.head(0);
  const bool powers = any.map == FeatureMap::kExp;
  const int64_t rows = kernels.block_rows(any), width = kernels.frame_floats(any);
  const int64_t blocks = ((any.causal ? any.T : any.S) + rows - 1) / rows;
  // Of each head: the largest exponents before each block, or without a mask those of all keys.
  const Workspace frames(powers ? heads : 0, (blocks + 1) * width);
  if (!frames.ok()) return false;
  auto raise = [&](int64_t task, int) {
    const int64_t index = task / blocks, block = task % blocks;
    float* const frame = frames.part(index) + (block + 1) * width;
    std::fill_n(frame, width, kLowestFrame);
    const int64_t begin = std::min(block * rows, any.S);
    kernels.raise_frame(call.head(index), begin, std::min(begin + rows, any.S), frame);
  };
  auto accumulate = [&](int64_t index, int) {
    float* const first = frames.part(index);
    std::fill_n(first, width, kLowestFrame);
    for (int64_t i = width; i < (blocks + 1) * width; ++i) {
      first[i] = std::max(first[i], first[i - width]);
    }
    if (!any.causal) std::copy_n(first + blocks * width, width, first);
  };
  if (powers) {
    executor.parallel(heads * blocks, raise);
    executor.parallel(heads, accumulate);
  }
  for (LinearPass pass : passes) {
    if (!Pass(kernels, call, pass, heads, frames, executor).run()) return false;
  }
  return true;
}

template <class Element>
LinearHead head_of(const LinearAttentionInputs<Element>& inputs, int64_t b, int64_t kv_head) {
  const Shape& shape = inputs.shape;
  return {.element = ElementTraits<Element>::kElement,
          .map = inputs.feature_map,
          .causal = inputs.causal,
          .G = shape.group(),
          .T = shape.T,
          .S = inputs.causal ? std::min(shape.S, shape.T) : shape.S,
          .D = shape.D,
          .Dv = shape.Dv,
          .q = rows(inputs.q, b, kv_head * shape.group()),
          .k = rows(inputs.k, b, kv_head),
          .v = rows(inputs.v, b, kv_head)};
}

template <class Element>
class ForwardCall final : public Call {
 public:
  ForwardCall(const LinearAttentionInputs<Element>& inputs, const View<Element>& out)
      : inputs_(inputs), out_(out) {}
  LinearHead head(int64_t index) const override {
    const int64_t b = index / inputs_.shape.Hkv, kv_head = index % inputs_.shape.Hkv;
    LinearHead head = head_of(inputs_, b, kv_head);
    head.out = rows(out_, b, kv_head * head.G);
    return head;
  }

 private:
  const LinearAttentionInputs<Element>& inputs_;
  const View<Element>& out_;
};

template <class Element>
class BackwardCall final : public Call {
 public:
  BackwardCall(const LinearAttentionInputs<Element>& inputs,
               const LinearAttentionGradients<Element>& gradients, const Workspace& sums)
      : inputs_(inputs), gradients_(gradients), sums_(sums) {}
  LinearHead head(int64_t index) const override {
    const int64_t b = index / inputs_.shape.Hkv, kv_head = index % inputs_.shape.Hkv;
    LinearHead head = head_of(inputs_, b, kv_head);
    const int64_t h = kv_head * head.G;
    head.result = rows(gradients_.out, b, h);
    head.d_out = rows(gradients_.d_out, b, h);
    head.d_q = rows(gradients_.d_q, b, h);
    head.d_k = rows(gradients_.d_k, b, kv_head);
    head.d_v = rows(gradients_.d_v, b, kv_head);
    head.inverse = sums_.part(index);
    head.d_sum = head.inverse + head.G * head.T;
    return head;
  }

 private:
  const LinearAttentionInputs<Element>& inputs_;
  const LinearAttentionGradients<Element>& gradients_;
  const Workspace& sums_;
};

// Zeros rows [begin, end) of every head.
template <class Element>
void zero_rows(const View<Element>& view, int64_t B, int64_t H, int64_t begin, int64_t end,
               int64_t width) {
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = begin; t < end; ++t) std::fill_n(view.row(b, h, t), width, Element{});
    }
  }
}

// Whether some weight exists at all; if not, every result is zero.
bool any_weight(const Shape& shape) {
  return shape.B > 0 && shape.H > 0 && shape.T > 0 && shape.S > 0 && shape.D > 0;
}

template <class Element>
bool run_forward(const LinearAttentionInputs<Element>& inputs, const View<Element>& out,
                 Executor& executor) {
  const LinearKernels* kernels = kernels_in_use();
  if (kernels == nullptr) return false;
  const ForwardCall<Element> call(inputs, out);
  return run_passes(*kernels, call, inputs.shape.B * inputs.shape.Hkv, {LinearPass::kForward},
                    executor);
}

template <class Element>
bool run_backward(const LinearAttentionInputs<Element>& inputs,
                  const LinearAttentionGradients<Element>& gradients, Executor& executor) {
  const LinearKernels* kernels = kernels_in_use();
  if (kernels == nullptr) return false;
  const Shape& shape = inputs.shape;
  const Workspace sums(shape.B * shape.Hkv, 2 * shape.group() * shape.T);
  if (!sums.ok()) return false;
  const BackwardCall<Element> call(inputs, gradients, sums);
  return run_passes(*kernels, call, shape.B * shape.Hkv,
                    {LinearPass::kQueryGradients, LinearPass::kKeyGradients}, executor);
}

}  // namespace

template <class Element>
void linear_attention_forward(const LinearAttentionInputs<Element>& inputs, View<Element> out,
                              Executor& executor) {
  const Shape& shape = inputs.shape;
  assert(shape.Hkv == 0 ? shape.H == 0 : shape.H % shape.Hkv == 0);
  if (!any_weight(shape)) return zero_rows(out, shape.B, shape.H, 0, shape.T, shape.Dv);
  if constexpr (ElementTraits<Element>::kElement != heed::Element::kFloat64) {
    if (run_forward(inputs, out, executor)) return;
  }
  ref::linear_attention_forward(inputs, out, executor);
}

template <class Element>
void linear_attention_backward(const LinearAttentionInputs<Element>& inputs,
                               const LinearAttentionGradients<Element>& gradients,
                               Executor& executor) {
  const Shape& shape = inputs.shape;
  assert(shape.Hkv == 0 ? shape.H == 0 : shape.H % shape.Hkv == 0);
  const bool any = any_weight(shape);
  const int64_t seen = !any ? 0 : inputs.causal ? std::min(shape.S, shape.T) : shape.S;
  if (!any) zero_rows(gradients.d_q, shape.B, shape.H, 0, shape.T, shape.D);
  zero_rows(gradients.d_k, shape.B, shape.Hkv, seen, shape.S, shape.D);
  zero_rows(gradients.d_v, shape.B, shape.Hkv, seen, shape.S, shape.Dv);
  if (!any) return;
  if constexpr (ElementTraits<Element>::kElement != heed::Element::kFloat64) {
    if (run_backward(inputs, gradients, executor)) return;
  }
  ref::linear_attention_backward(inputs, gradients, executor);
}

HEED_LINEAR_TEMPLATES(, float)
HEED_LINEAR_TEMPLATES(, BFloat16)
HEED_LINEAR_TEMPLATES(, Float16)
HEED_LINEAR_TEMPLATES(, double)

}  // namespace heed
