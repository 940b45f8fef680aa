// The scalar reference: attention as its formulas read, in double whatever the elements are. Oracle
// of the tests, path of double precision, and what runs where no kernel set does.
//
// Beyond inputs and outputs it takes a row of scores for each thread, backward also the sums of one
// key head.
#pragma once

#include "heed/core/attention.h"

namespace heed::ref {

template <class Element>
void attention_forward(const AttentionInputs<Element>& inputs,
                       const AttentionOutputs<Element>& outputs, Executor& executor);

template <class Element>
void attention_backward(const AttentionInputs<Element>& inputs,
                        const AttentionGradients<Element>& gradients, Executor& executor);

}  // namespace heed::ref
