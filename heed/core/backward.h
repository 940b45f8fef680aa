// How the kernels' backward is cut into tasks.
#pragma once

#include "heed/core/attention.h"
#include "heed/core/isa/kernels.h"

namespace heed {

// False, and nothing promised of the gradients: no memory for a workspace.
bool run_backward(const KernelSet& set, const AttentionInputs<float>& inputs,
                  const AttentionGradients<float>& gradients, Executor& executor);

}  // namespace heed
