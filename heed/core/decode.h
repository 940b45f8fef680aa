// Forward of few queries against many keys, as when a model writes word by word: limited by how
// fast K and V are read, so heads that share keys run together and long sequences are split.
#pragma once

#include "heed/core/attention.h"
#include "heed/core/isa/kernels.h"

namespace heed {

// False: not a case for it (see decode.cpp), or no memory; nothing has been written then.
template <class E>
bool run_decode(const KernelSet& set, const AttentionInputs<E>& inputs,
                const AttentionOutputs<E>& outputs, Executor& executor);

extern template bool run_decode(const KernelSet&, const AttentionInputs<float>&,
                                const AttentionOutputs<float>&, Executor&);
extern template bool run_decode(const KernelSet&, const AttentionInputs<BFloat16>&,
                                const AttentionOutputs<BFloat16>&, Executor&);
extern template bool run_decode(const KernelSet&, const AttentionInputs<Float16>&,
                                const AttentionOutputs<Float16>&, Executor&);

}  // namespace heed
