// Runs the engine's tasks on torch's own threads (torch.set_num_threads), so that no second pool
// exists.
#pragma once

#include "heed/core/executor.h"

namespace heed {

class TorchExecutor final : public Executor {
 public:
  int threads() const override;
  void run(int64_t count, void (*task)(void* context, int64_t index, int thread),
           void* context) override;
};

}  // namespace heed
