// The scalar reference of linear attention: its formula as it reads, in O(T S). Oracle of the
// tests, path of double precision, and what runs where no kernel set does.
#pragma once

#include "heed/core/linear_attention.h"

namespace heed::ref {

template <class E>
void linear_attention_forward(const LinearAttentionInputs<E>& inputs, const View<E>& out,
                              Executor& executor);
template <class E>
void linear_attention_backward(const LinearAttentionInputs<E>& inputs,
                               const LinearAttentionGradients<E>& gradients, Executor& executor);

}  // namespace heed::ref
