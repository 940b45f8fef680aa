// Everything a training needs to go on as if it had never stopped, in one safetensors file that is
// replaced atomically.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "heed/models/parameters.h"
#include "heed/train/schedule.h"

namespace heed::train {

struct Checkpoint {
  models::NamedTensors model, optimizer;
  models::NamedTensors average;  // running mean of the weights; empty where none is kept
  at::Tensor random_state;       // of torch's CPU generator, uint8
  int64_t step = 0;              // steps done
  int64_t epoch = 1;             // being read, from 1
  int64_t batch = 0;             // of this epoch, read already
  Schedule::State schedule;
  double best_loss = 0;  // of all validations
  bool has_best = false;
  int64_t validations_without_progress = 0;
  int64_t skips_in_a_row = 0;  // steps without a finite loss and gradient
  double loss_sum = 0;         // since the last validation
  int64_t loss_tokens = 0;
  double seconds = 0;  // trained so far, all runs together
  std::string config;  // JSON of the configuration it belongs to
};

void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);
Checkpoint load_checkpoint(const std::filesystem::path& file);  // UserError when it is not whole

}  // namespace heed::train
