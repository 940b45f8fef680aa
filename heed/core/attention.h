// The engine's public face: attention forward and backward on strided views, without torch.
//
//   out[b,h,t,:] = sum_s p[b,h,t,s] v[b,h/G,s,:]      p = softmax_s(score[b,h,t,s]),  G = H / Hkv
//   dot:      score = scale * <q[b,h,t,:], k[b,h/G,s,:]>
//             (Luong 2015, Vaswani 2017)
//   additive: score = scale * sum_d w[h,d] tanh(q[b,h,t,d] + k[b,h/G,s,d])
//             (Bahdanau 2015)
//
// Masked keys (causal, lengths) are never read into a result. A row with no key gives out 0,
// lse -inf and zero gradients. Same bits for any number of threads and any batch neighbours.
#pragma once

#include <cstdint>

#include "heed/core/executor.h"
#include "heed/core/view.h"

namespace heed {

enum class Score { kDot, kAdditive };

// Which keys a query may see: all; s <= t; or s <= t + S_b - T, with S_b the element's own length.
enum class Causal { kNone, kTopLeft, kBottomRight };

// What forward and backward share. Real is float (kernels) or double (reference only).
template <class Real>
struct AttentionInputs {
  Shape shape;
  Score score = Score::kDot;
  Causal causal = Causal::kNone;
  Real scale = 1;
  View<const Real> q;                   // [B,H,T,D]
  View<const Real> k;                   // [B,Hkv,S,D]
  View<const Real> v;                   // [B,Hkv,S,Dv]
  const Real* weight = nullptr;         // [H,D] dense, additive only
  const int64_t* kv_lengths = nullptr;  // [B], keys of each element in [0, S]; null: all S
};

template <class Real>
struct AttentionOutputs {
  View<Real> out;      // [B,H,T,Dv]
  Real* lse;           // [B,H,T] dense, natural logarithm
  View<Real> weights;  // [B,H,T,S], optional: p itself, for those who look; masked keys get 0
};

template <class Real>
struct AttentionGradients {
  View<const Real> out;         // [B,H,T,Dv] and
  const Real* lse;              // [B,H,T] as the forward gave them
  View<const Real> d_out;       // [B,H,T,Dv]
  const Real* d_lse = nullptr;  // [B,H,T] dense, optional
  View<Real> d_q, d_k, d_v;     // written whole, in the shapes of q, k, v
  Real* d_weight = nullptr;     // [H,D] dense, additive only
};

void attention_forward(const AttentionInputs<float>& inputs, const AttentionOutputs<float>& outputs,
                       Executor& executor);
void attention_backward(const AttentionInputs<float>& inputs,
                        const AttentionGradients<float>& gradients, Executor& executor);

// Double precision runs the scalar reference: the oracle of the tests, slow.
void attention_forward(const AttentionInputs<double>& inputs,
                       const AttentionOutputs<double>& outputs, Executor& executor);
void attention_backward(const AttentionInputs<double>& inputs,
                        const AttentionGradients<double>& gradients, Executor& executor);

}  // namespace heed
