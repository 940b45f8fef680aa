// The scalar reference: attention as its formula reads. Oracle of the tests, path of double
// precision, and what runs where no kernel set does. It allocates nothing.
#pragma once

#include "heed/core/attention.h"

namespace heed::ref {

template <class Real>
void attention_forward(const AttentionInputs<Real>& inputs, const AttentionOutputs<Real>& outputs,
                       Executor& executor);

template <class Real>
void attention_backward(const AttentionInputs<Real>& inputs,
                        const AttentionGradients<Real>& gradients, Executor& executor);

}  // namespace heed::ref
