// How the kernels' backward is cut into tasks.
#pragma once

#include "heed/core/attention.h"
#include "heed/core/isa/kernels.h"

namespace heed {

// False, and nothing promised of the gradients: no memory for a workspace.
template <class E>
bool run_backward(const KernelSet& set, const AttentionInputs<E>& inputs,
                  const AttentionGradients<E>& gradients, Executor& executor);

}  // namespace heed
