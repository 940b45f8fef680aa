// Forward of few queries against many keys, as when a model writes word by word: limited by how
// fast K and V are read, so heads that share keys run together and long sequences are split.
#pragma once

#include "heed/core/attention.h"
#include "heed/core/isa/kernels.h"

namespace heed {

// Elements with no more queries than this are run_decode's; 0: none are (see decode.cpp). A row's
// bits depend on its own element only.
template <class E>
int64_t decoded_queries(const KernelSet& set, const AttentionInputs<E>& inputs,
                        const AttentionOutputs<E>& outputs);

// False: no memory; nothing has been written then.
template <class E>
bool run_decode(const KernelSet& set, const AttentionInputs<E>& inputs,
                const AttentionOutputs<E>& outputs, Executor& executor);

}  // namespace heed
