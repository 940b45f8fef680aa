// The kernels for x86-64-v2: SSE4.2.
#define HEED_KERNELS kernels_v2
#include "heed/core/isa/kernel_set.inc"
