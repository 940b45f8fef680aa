// The executor on torch's threads: each task once, each thread's number its own.
#include "heed/ops/executor.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace heed {
namespace {

TEST(TorchExecutor, RunsEachTaskOnce) {
  TorchExecutor executor;
  for (const int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> runs(count);
    auto task = [&](int64_t index, int) { ++runs[index]; };
    executor.parallel(count, task);
    for (const auto& times : runs) EXPECT_EQ(times, 1) << "of " << count;
  }
}

TEST(TorchExecutor, ConcurrentTasksHaveDifferentThreadNumbers) {
  TorchExecutor executor;
  std::vector<std::atomic<int>> inside(executor.threads());
  std::atomic<bool> shared = false, outside = false;
  auto task = [&](int64_t, int thread) {
    if (thread < 0 || thread >= static_cast<int>(inside.size())) {
      outside = true;
      return;
    }
    if (++inside[thread] != 1) shared = true;
    --inside[thread];
  };
  executor.parallel(10000, task);
  EXPECT_FALSE(shared);
  EXPECT_FALSE(outside);
}

TEST(TorchExecutor, UsesTorchsThreadsAndOneInsideAParallelRegion) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  EXPECT_EQ(TorchExecutor().threads(), 3);
  std::atomic<int> inner = 0;
  at::parallel_for(0, 3, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) inner += TorchExecutor().threads();
  });
  EXPECT_EQ(inner, 3);
  at::set_num_threads(before);
}

}  // namespace
}  // namespace heed
