// What this machine can do at most, measured: the roof that benches compare with.
#pragma once

#include <c10/core/ScalarType.h>

namespace heed {

// Floating-point operations per second of independent multiply-adds in registers, on torch's
// current threads, with the widest vectors this processor has. Takes about 0.1 s. float32, float64.
double peak_flops(at::ScalarType dtype);

// Bytes per second read from memory (a buffer larger than the caches) on torch's current threads.
double read_bandwidth();

}  // namespace heed
