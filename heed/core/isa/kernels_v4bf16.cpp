// The kernels for x86-64-v4 with AVX512-BF16: products of bfloat16 pairs in one instruction.
#define HEED_KERNELS kernels_v4bf16
#include "heed/core/isa/kernel_set.inc"
