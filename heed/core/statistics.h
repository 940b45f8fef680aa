// What a finished forward did, without its T x S matrix: sums over columns, diagonals and blocks of
// the weights, computed again from the log-sum-exp. Weights are those before dropout.
//
// Sizes as in attention.h; not for packed sequences. lse [B,H,T] as the forward gave it.
#pragma once

#include "heed/core/attention.h"

namespace heed {

// sums[b,h,s] = sum_t row_weights[b,h,t] p[b,h,t,s]; row_weights [B,H,T], null: ones.
template <class Element>
void column_sums(const AttentionInputs<Element>& inputs, const RealOf<Element>* lse,
                 const RealOf<Element>* row_weights, RealOf<Element>* sums, Executor& executor);

// p[b,h,t] = the weight of key t + d, 0 where there is none.
template <class Element>
void diagonal(const AttentionInputs<Element>& inputs, const RealOf<Element>* lse, int64_t d,
              RealOf<Element>* p, Executor& executor);

// means[b,h,i,j] = the mean weight of queries [i n, i n + n) at keys [j n, j n + n), of those that
// exist; [B,H,ceil(T/n),ceil(S/n)].
template <class Element>
void block_means(const AttentionInputs<Element>& inputs, const RealOf<Element>* lse, int64_t n,
                 RealOf<Element>* means, Executor& executor);

// sums[b,h,s] = sum_t row_weights[b,h,t] max(0, p[t,s] d loss / d p[t,s]): gradient x attention
// (Chefer et al. 2021). Of the gradients only d_out is read.
template <class Element>
void gradient_column_sums(const AttentionInputs<Element>& inputs,
                          const AttentionGradients<Element>& gradients,
                          const RealOf<Element>* row_weights, RealOf<Element>* sums,
                          Executor& executor);

}  // namespace heed
