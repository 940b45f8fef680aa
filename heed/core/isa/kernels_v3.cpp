// The kernels for x86-64-v3: AVX2 and FMA.
#define HEED_KERNELS kernels_v3
#include "heed/core/isa/kernel_set.inc"
