// The kernels of linear attention for x86-64-v4.
#define HEED_LINEAR linear_kernels_v4
#include "heed/core/isa/linear.inc"
