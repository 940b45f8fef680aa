// The stand-alone thread pool.
#include "heed/core/executor.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace heed {

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::atomic<bool> busy{false};

  std::mutex mutex;
  std::condition_variable wake, done;
  int64_t generation = 0;  // counts the calls of run(); a worker runs each once
  int working = 0;         // workers still inside the current call
  bool stop = false;

  int64_t count = 0;
  void (*task)(void*, int64_t, int) = nullptr;
  void* context = nullptr;
  std::atomic<int64_t> next{0};

  void drain(int thread) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      task(context, i, thread);
    }
  }

  void work(int thread) {
    int64_t seen = 0;
    for (std::unique_lock lock(mutex);;) {
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      lock.unlock();
      drain(thread);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  for (int thread = 1; thread < threads; ++thread) {
    state_->workers.emplace_back([state = state_.get(), thread] { state->work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(int64_t count, void (*task)(void*, int64_t, int), void* context) {
  State& state = *state_;
  // A call from inside a task, or while another thread uses the pool, runs where it is.
  const bool alone = count <= 1 || state.workers.empty();
  if (alone || state.busy.exchange(true, std::memory_order_acquire)) {
    for (int64_t index = 0; index < count; ++index) task(context, index, 0);
    return;
  }
  {
    std::lock_guard lock(state.mutex);
    state.count = count;
    state.task = task;
    state.context = context;
    state.next.store(0, std::memory_order_relaxed);
    state.working = static_cast<int>(state.workers.size());
    ++state.generation;
  }
  state.wake.notify_all();
  state.drain(0);
  {
    std::unique_lock lock(state.mutex);
    state.done.wait(lock, [&] { return state.working == 0; });
  }
  state.busy.store(false, std::memory_order_release);
}

Executor& default_executor() {
  static ThreadPool pool([] {
    const char* text = std::getenv("HEED_THREADS");
    const int64_t asked = text == nullptr ? 0 : std::strtol(text, nullptr, 10);
    const int64_t processors = std::thread::hardware_concurrency();
    constexpr int64_t kMost = 1024;  // a mistyped number must not start a million threads
    const int64_t threads = asked > 0 ? asked : processors;
    return static_cast<int>(threads < 1 ? 1 : threads > kMost ? kMost : threads);
  }());
  return pool;
}

}  // namespace heed
