// The training loop of every model: steps, validation, early stopping, checkpoints, resumption.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "heed/train/optimizer.h"
#include "heed/train/schedule.h"

namespace heed::train {

struct TrainingOptions {
  int64_t epochs = 10;
  double learning_rate = 1e-3;
  ScheduleOptions schedule;
  AdamWOptions adamw;
  double clip_norm = 1.0;          // global L2 norm of the gradients; 0 does not clip
  double average = 0;              // decay of the running mean of the weights; 0 keeps none
  int64_t patience = 0;            // validations without progress before it stops; 0 never
  int64_t checkpoint_every = 500;  // steps; also at the end of each epoch
  int64_t log_every = 100;         // steps, where standard error is not a terminal
  int64_t abort_after_skips = 20;  // steps in a row without a finite loss and gradient
  int64_t seed = 1;

  template <class Visitor>
  void visit(Visitor& v) {
    v("epochs", epochs, {1, 1e6});
    v("learning_rate", learning_rate, {0, 100});
    v("schedule", schedule);
    v("adamw", adamw);
    v("clip_norm", clip_norm, {0, 1e9});
    v("average", average, {0, 0.99999});
    v("patience", patience, {0, 1e6});
    v("checkpoint_every", checkpoint_every, {1, 1e9});
    v("log_every", log_every, {1, 1e9});
    v("abort_after_skips", abort_after_skips, {1, 1e6});
    v("seed", seed, {0, 4e9});
  }
};

// What is learnt. The trainer knows nothing else of it.
class Task {
 public:
  virtual ~Task() = default;
  virtual torch::nn::Module& module() = 0;
  // Lays out an epoch (1, 2, ...) and returns its number of batches; the same for the same epoch.
  virtual int64_t plan_epoch(int64_t epoch) = 0;
  struct Loss {
    at::Tensor sum;      // scalar, over the batch's tokens
    int64_t tokens = 0;  // what `sum` is divided by
  };
  virtual Loss loss(int64_t batch) = 0;
  struct Validation {
    double loss = 0;     // smaller is better
    std::string report;  // for people
  };
  virtual Validation validate() = 0;
  virtual void save_best() = 0;  // the module as it stands is the best so far
};

enum class Start {
  kNew,     // refuses a folder that holds a checkpoint
  kResume,  // goes on from the checkpoint; starts where there is none
  kRestart  // overwrites it
};

enum class Outcome { kFinished, kInterrupted };

// Trains into `folder` (checkpoint.safetensors, train.log). `config` is the JSON that a resumed run
// must share. SIGINT or SIGTERM saves and returns kInterrupted; the resumed run ends with the same
// bits as one that was never stopped.
Outcome train(Task& task, const TrainingOptions& options, const std::filesystem::path& folder,
              const std::string& config, Start start);

}  // namespace heed::train
