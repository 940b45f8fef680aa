// Hands tasks out one by one, in order: causal tasks differ in length, so equal shares would wait.
#include "heed/ops/executor.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

namespace heed {

int TorchExecutor::threads() const {
  return at::in_parallel_region() ? 1 : std::max(1, at::get_num_threads());
}

void TorchExecutor::run(int64_t count, void (*task)(void*, int64_t, int), void* context) {
  const int64_t workers = std::min<int64_t>(count, threads());
  if (workers <= 1) {
    for (int64_t index = 0; index < count; ++index) task(context, index, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t index = next++; index < count; index = next++) {
        task(context, index, static_cast<int>(worker));
      }
    }
  });
}

}  // namespace heed
