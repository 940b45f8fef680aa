// The pool calls every task once, never twice at a time on one thread number, and survives nesting.
#include "heed/core/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace heed {
namespace {

TEST(ThreadPool, CallsEachIndexOnce) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t count : {0, 1, 2, 100, 10000}) {
      std::vector<std::atomic<int>> calls(count);
      auto body = [&](int64_t index, int) { ++calls[index]; };
      pool.parallel(count, body);
      for (const auto& c : calls) EXPECT_EQ(c, 1);
    }
  }
}

TEST(ThreadPool, NoTwoTasksShareAThreadNumber) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> clashes{0};
  auto body = [&](int64_t, int thread) {
    if (inside[thread]++ != 0) ++clashes;
    std::this_thread::yield();
    --inside[thread];
  };
  pool.parallel(2000, body);
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, RunsNestedCalls) {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  auto inner = [&](int64_t, int) { ++calls; };
  auto outer = [&](int64_t, int) { pool.parallel(5, inner); };
  pool.parallel(20, outer);
  EXPECT_EQ(calls, 100);
}

TEST(ThreadPool, ServesCallersAtTheSameTime) {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  auto body = [&](int64_t, int) { ++calls; };
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) pool.parallel(10, body);
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(calls, 2000);
}

TEST(DefaultExecutor, IsOnePool) {
  EXPECT_EQ(&default_executor(), &default_executor());
  EXPECT_GE(default_executor().threads(), 1);
}

}  // namespace
}  // namespace heed
