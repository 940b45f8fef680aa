// The kernels of linear attention for x86-64-v3.
#define HEED_LINEAR linear_kernels_v3
#include "heed/core/isa/linear.inc"
