// The engine's public face: attention forward and backward on strided views, without torch.
//
//   out[b,h,t,:] = sum_s p[b,h,t,s] v[b,h/G,s,:]      p = softmax_s(score[b,h,t,s]),  G = H / Hkv
//   dot:      dot = scale * <q[b,h,t,:], k[b,h/G,s,:]>
//             (Luong 2015, Vaswani 2017)
//   additive: dot = scale * sum_d w[h,d] tanh(q[b,h,t,d] + k[b,h/G,s,d])
//             (Bahdanau 2015)
//   none:     dot = 0, q and k are never read (location-based attention)
//   score = dot, or what the program makes of it (heed/core/program/program.h)
//
// Masked keys (causal, window, lengths, the program's mask) are never read into a result. A row
// with no key gives out 0, lse -inf and zero gradients. Same bits for any number of threads and any
// batch neighbours.
#pragma once

#include <cstdint>

#include "heed/core/element.h"
#include "heed/core/executor.h"
#include "heed/core/view.h"

namespace heed {

namespace program {
class BoundProgram;
}

enum class Score { kDot, kAdditive, kNone };

// Which keys a query may see: all; s <= t; or s <= t + S_b - T_b, with S_b and T_b the element's
// own lengths.
enum class Causal { kNone, kTopLeft, kBottomRight };

// Keys from t - left to t + right, both included, counted from the corner of Causal (top left when
// that is kNone); -1: unbounded.
struct Window {
  int64_t left = -1, right = -1;
};

// Weights are dropped with probability p after the softmax and the rest divided by 1 - p. Which is
// a function of (seed, b, h, t, s) alone.
struct Dropout {
  double p = 0;
  uint64_t seed = 0;
};

// Packed sequences: element b is rows [q_offsets[b], q_offsets[b + 1]) of one long q (batch stride
// 0), likewise k and v. T and S of the shape are the longest. lse is then [H, q_offsets[B]].
struct Packing {
  const int64_t* q_offsets = nullptr;  // [B + 1], or null: not packed
  const int64_t* k_offsets = nullptr;  // [B + 1]
};

// What forward and backward share. Element is float, BFloat16 or Float16 (kernels), or double
// (reference only).
template <class Element>
struct AttentionInputs {
  Shape shape;
  Score score = Score::kDot;
  Causal causal = Causal::kNone;
  Window window = {};
  RealOf<Element> scale = 1;
  View<const Element> q;                           // [B,H,T,D]
  View<const Element> k;                           // [B,Hkv,S,D]
  View<const Element> v;                           // [B,Hkv,S,Dv]
  const Element* weight = nullptr;                 // [H,D] dense, additive only
  const int64_t* kv_lengths = nullptr;             // [B] in [0, S]; null: all S
  Packing packing = {};                            // not together with kv_lengths
  const program::BoundProgram* program = nullptr;  // null: score = dot, no further mask
  const Element* sinks = nullptr;                  // [H]: one more key a head, without a value
  int64_t top_k = 0;                               // > 0: only keys whose score is among the row's
                                                   // top_k largest, ties kept
  Dropout dropout = {};
};

// Of each row, where not null. Masked rows have entropy 0, max -inf, keys -1 and weights 0.
template <class Real>
struct RowStatistics {
  Real* entropy = nullptr;      // [B,H,T] in nats, the sink counted where there is one
  Real* max = nullptr;          // [B,H,T] largest score (of a real key)
  int64_t top = 0;              // how many of the largest weights
  int64_t* top_keys = nullptr;  // [B,H,T,top], by falling weight; equal weights by rising key
  Real* top_weights = nullptr;  // [B,H,T,top]
};

template <class Element>
struct AttentionOutputs {
  View<Element> out;              // [B,H,T,Dv]; may be null where only the others are wanted
  RealOf<Element>* lse;           // [B,H,T] dense, natural logarithm, the sink counted
  View<RealOf<Element>> weights;  // [B,H,T,S], rows packed as q's; optional: p itself, for those
                                  // who look (before dropout); masked keys get 0
  RowStatistics<RealOf<Element>> statistics = {};
};

template <class Element>
struct AttentionGradients {
  View<const Element> out;                 // [B,H,T,Dv] and
  const RealOf<Element>* lse;              // [B,H,T] as the forward gave them
  View<const Element> d_out;               // [B,H,T,Dv]
  const RealOf<Element>* d_lse = nullptr;  // [B,H,T] dense, optional
  View<Element> d_q, d_k, d_v;             // written whole, in the shapes of q, k, v
  RealOf<Element>* d_weight = nullptr;     // [H,D] dense, additive only
  RealOf<Element>* d_sinks = nullptr;      // [H], where there are sinks
  // One pointer a table of the program, each null (not wanted) or dense in the table's sizes;
  // written whole. Null: none wanted.
  RealOf<Element>* const* d_tables = nullptr;
};

// float, BFloat16 and Float16 run the kernels; double the scalar reference: the oracle of the
// tests, slow.
template <class Element>
void attention_forward(const AttentionInputs<Element>& inputs,
                       const AttentionOutputs<Element>& outputs, Executor& executor);
template <class Element>
void attention_backward(const AttentionInputs<Element>& inputs,
                        const AttentionGradients<Element>& gradients, Executor& executor);

#define HEED_FOR_ELEMENTS(DO) DO(float) DO(BFloat16) DO(Float16) DO(double)
#define HEED_DECLARE(E)                                                                            \
  extern template void attention_forward(const AttentionInputs<E>&, const AttentionOutputs<E>&,    \
                                         Executor&);                                               \
  extern template void attention_backward(const AttentionInputs<E>&, const AttentionGradients<E>&, \
                                          Executor&);
HEED_FOR_ELEMENTS(HEED_DECLARE)
#undef HEED_DECLARE

}  // namespace heed
