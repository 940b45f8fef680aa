// The kernels' vector functions on arrays, compiled once per instruction set for the accuracy test.
#include "heed/core/isa/vec_math.h"

namespace heed {
namespace {

template <class Function>
void apply(Function function, const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) store(y + i, function(load(x + i)));
}

}  // namespace

void HEED_PROBE(int which, const float* x, float* y, int64_t n) {
  if (which == 0) apply([](Vec v) { return exp2(v); }, x, y, n);
  if (which == 1) apply([](Vec v) { return tanh(v); }, x, y, n);
  if (which == 2) apply([](Vec v) { return log2(v); }, x, y, n);
  if (which == 3) apply([](Vec v) { return exp2_weight(v); }, x, y, n);
}

}  // namespace heed
