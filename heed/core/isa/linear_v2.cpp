// The kernels of linear attention for x86-64-v2.
#define HEED_LINEAR linear_kernels_v2
#include "heed/core/isa/linear.inc"
