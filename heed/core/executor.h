// Who runs the engine's tasks: the caller's threads. The core starts none but ThreadPool's.
#pragma once

#include <cstdint>
#include <memory>

namespace heed {

class Executor {
 public:
  virtual ~Executor() = default;

  // Threads that may run tasks at the same time, at least 1.
  virtual int threads() const = 0;

  // Calls task(context, index, thread) once for each index in [0, count) and returns when all are
  // done. `thread` is in [0, threads()) and no two concurrent calls share it. Any order. Tasks do
  // not throw.
  virtual void run(int64_t count, void (*task)(void* context, int64_t index, int thread),
                   void* context) = 0;

  // The same for a callable `body(index, thread)`.
  template <class Body>
  void parallel(int64_t count, Body& body) {
    run(
        count,
        [](void* context, int64_t index, int thread) {
          (*static_cast<Body*>(context))(index, thread);
        },
        &body);
  }
};

// Runs everything on the calling thread.
class SerialExecutor final : public Executor {
 public:
  int threads() const override { return 1; }
  void run(int64_t count, void (*task)(void*, int64_t, int), void* context) override {
    for (int64_t index = 0; index < count; ++index) task(context, index, 0);
  }
};

// A pool of its own for programs that bring no threads. Tasks are handed out one by one, in order.
class ThreadPool final : public Executor {
 public:
  explicit ThreadPool(int threads);  // at least 1, the calling thread included
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const override;
  void run(int64_t count, void (*task)(void*, int64_t, int), void* context) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The process's own pool, made at first use with HEED_THREADS threads (default: all processors).
Executor& default_executor();

}  // namespace heed
