// The kernels for x86-64-v4: AVX-512.
#define HEED_KERNELS kernels_v4
#include "heed/core/isa/kernel_set.inc"
