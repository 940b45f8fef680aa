// Linear attention: a feature map in place of the softmax, so that time and memory grow with T.
//
//   out[b,h,t,:] = sum_s w[t,s] v[b,h/G,s,:] / sum_s w[t,s]   G = H / Hkv
//   w[t,s] = sum_d phi(q[b,h,t,d]) phi(k[b,h/G,s,d])          causal: s <= t only
//
// Katharopoulos et al. 2020. A row whose weights sum to 0 gives 0 and zero gradients. Masked keys
// are never read into a result: a causal row's bits depend on nothing after it, nor on the number
// of threads or batch neighbours.
#pragma once

#include <cstdint>

#include "heed/core/element.h"
#include "heed/core/executor.h"
#include "heed/core/view.h"

namespace heed {

// phi(x): elu(x) + 1, max(x, 0), exp(x).
enum class FeatureMap : uint8_t { kElu, kRelu, kExp };

// Element is float, BFloat16 or Float16 (kernels), or double (reference only, O(T S)).
template <class Element>
struct LinearAttentionInputs {
  Shape shape;
  FeatureMap feature_map = FeatureMap::kElu;
  bool causal = false;
  View<const Element> q;  // [B,H,T,D]
  View<const Element> k;  // [B,Hkv,S,D]
  View<const Element> v;  // [B,Hkv,S,Dv]
};

template <class Element>
struct LinearAttentionGradients {
  View<const Element> out;      // [B,H,T,Dv] as the forward gave it
  View<const Element> d_out;    // [B,H,T,Dv]
  View<Element> d_q, d_k, d_v;  // written whole, in the shapes of q, k, v
};

template <class Element>
void linear_attention_forward(const LinearAttentionInputs<Element>& inputs, View<Element> out,
                              Executor& executor);
template <class Element>
void linear_attention_backward(const LinearAttentionInputs<Element>& inputs,
                               const LinearAttentionGradients<Element>& gradients,
                               Executor& executor);

#define HEED_LINEAR_TEMPLATES(PREFIX, E)                                                  \
  PREFIX template void linear_attention_forward(const LinearAttentionInputs<E>&, View<E>, \
                                                Executor&);                               \
  PREFIX template void linear_attention_backward(const LinearAttentionInputs<E>&,         \
                                                 const LinearAttentionGradients<E>&, Executor&);
HEED_LINEAR_TEMPLATES(extern, float)
HEED_LINEAR_TEMPLATES(extern, BFloat16)
HEED_LINEAR_TEMPLATES(extern, Float16)
HEED_LINEAR_TEMPLATES(extern, double)

}  // namespace heed
