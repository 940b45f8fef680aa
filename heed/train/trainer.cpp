#include "heed/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/_foreach_lerp.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "heed/data/error.h"
#include "heed/train/checkpoint.h"
#include "heed/train/progress.h"
#include "heed/train/stop_signal.h"

namespace heed::train {
namespace {

constexpr const char* kCheckpointFile = "checkpoint.safetensors";

// Where two configurations first differ, as "a.b", or "".
std::string first_difference(const nlohmann::json& a, const nlohmann::json& b) {
  const nlohmann::json patch = nlohmann::json::diff(a, b);
  if (patch.empty()) return "";
  std::string path = patch[0].at("path").get<std::string>().substr(1);
  for (char& c : path) c = c == '/' ? '.' : c;
  return path;
}

// A handle to torch's CPU generator, which dropout and initialisation draw from.
at::Generator random_generator() { return at::detail::getDefaultCPUGenerator(); }

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

class Trainer {
 public:
  Trainer(Task& task, const TrainingOptions& options, std::filesystem::path folder,
          std::string config)
      : task_(task),
        options_(options),
        folder_(std::move(folder)),
        optimizer_(task.module(), options.adamw),
        schedule_(options.schedule, options.epochs * task.plan_epoch(1)),
        progress_(options.epochs * task.plan_epoch(1), options.log_every) {
    at::manual_seed(static_cast<uint64_t>(options.seed));
    state_.config = std::move(config);
    if (options_.average > 0) {
      for (const auto& [name, tensor] : models::named_tensors(task_.module())) {
        state_.average[name] = tensor.clone();
      }
    }
  }

  void begin(Start start);
  Outcome run();

 private:
  bool run_epoch();  // false: interrupted
  void step(int64_t batch);
  void skip(const std::string& what);
  void end_epoch();
  bool stalled() const;  // no progress for too long
  void update_average();
  void swap_average();  // exchanges weights and their running mean
  void save();
  void resume();
  void say(const std::string& line);
  double seconds() const;

  Task& task_;
  const TrainingOptions& options_;
  std::filesystem::path folder_;
  AdamW optimizer_;
  Schedule schedule_;
  Progress progress_;
  Checkpoint state_;  // the counters; its tensors are filled in when it is saved
  StopSignal stop_signal_;
  std::ofstream log_;
  int64_t tokens_ = 0, steps_done_ = 0;  // of this run, for the speed shown
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

void Trainer::say(const std::string& line) {
  progress_.message(line);
  log_ << line << std::endl;
}

double Trainer::seconds() const {
  const std::chrono::duration<double> now = std::chrono::steady_clock::now() - begin_;
  return state_.seconds + now.count();
}

void Trainer::begin(Start start) {
  std::filesystem::create_directories(folder_);
  const bool exists = std::filesystem::exists(folder_ / kCheckpointFile);
  if (exists && start == Start::kNew) {
    throw UserError((folder_ / kCheckpointFile).string() +
                    " exists: add --resume to go on from it, or --restart to begin again");
  }
  const bool resuming = exists && start == Start::kResume;
  log_.open(folder_ / "train.log", resuming ? std::ios::app : std::ios::trunc);
  if (!log_) throw UserError((folder_ / "train.log").string() + " can't be written to");
  if (resuming) resume();
  if (start == Start::kResume && !exists) {
    say("no checkpoint in " + folder_.string() + ": starting anew");
  }
}

void Trainer::resume() {
  Checkpoint saved = load_checkpoint(folder_ / kCheckpointFile);
  const std::string difference =
      first_difference(nlohmann::json::parse(saved.config), nlohmann::json::parse(state_.config));
  if (!difference.empty()) {
    throw UserError((folder_ / kCheckpointFile).string() + " was made with another '" + difference +
                    "': put it back, or begin again with --restart");
  }
  models::load_tensors(task_.module(), saved.model, (folder_ / kCheckpointFile).string());
  optimizer_.load_state(saved.optimizer);
  random_generator().set_state(saved.random_state);
  schedule_.state = saved.schedule;
  state_ = std::move(saved);
  say("resumed at step " + std::to_string(state_.step) + ", epoch " + std::to_string(state_.epoch));
}

void Trainer::save() {
  Checkpoint checkpoint = state_;
  checkpoint.model = models::named_tensors(task_.module());
  checkpoint.optimizer = optimizer_.state();
  checkpoint.random_state = random_generator().get_state();
  checkpoint.schedule = schedule_.state;
  checkpoint.seconds = seconds();
  save_checkpoint(folder_ / kCheckpointFile, checkpoint);
}

Outcome Trainer::run() {
  while (state_.epoch <= options_.epochs && !stalled()) {
    if (!run_epoch()) {
      save();
      say("stopped at step " + std::to_string(state_.step) +
          "; the checkpoint is saved, go on with --resume");
      return Outcome::kInterrupted;
    }
    end_epoch();
    ++state_.epoch;
    state_.batch = 0;
    save();
  }
  if (stalled()) say("no progress in " + std::to_string(options_.patience) + " validations: done");
  say("trained " + std::to_string(state_.step) + " steps in " + duration_text(seconds()) +
      ", best validation loss " + fixed(state_.best_loss, 4));
  return Outcome::kFinished;
}

bool Trainer::run_epoch() {
  const int64_t batches = task_.plan_epoch(state_.epoch);
  task_.module().train();
  while (state_.batch < batches) {
    if (StopSignal::requested()) return false;
    step(state_.batch);
    ++state_.batch;
    if (state_.step % options_.checkpoint_every == 0) save();
  }
  return !StopSignal::requested();
}

void Trainer::step(int64_t batch) {
  ++state_.step;
  optimizer_.zero_grad();
  const Task::Loss loss = task_.loss(batch);
  const double sum = loss.sum.item<double>();
  if (!std::isfinite(sum)) return skip("the loss is " + fixed(sum, 0));
  (loss.sum / loss.tokens).backward();
  const double norm = optimizer_.clip_gradients(options_.clip_norm);
  if (!std::isfinite(norm)) return skip("the gradient's norm is " + fixed(norm, 0));
  state_.skips_in_a_row = 0;
  const double rate = options_.learning_rate * schedule_.factor(state_.step);
  optimizer_.step(rate);
  update_average();
  state_.loss_sum += sum;
  state_.loss_tokens += loss.tokens;
  tokens_ += loss.tokens;
  ++steps_done_;
  progress_.update({.step = state_.step,
                    .epoch = state_.epoch,
                    .loss = state_.loss_sum / static_cast<double>(state_.loss_tokens),
                    .learning_rate = rate,
                    .tokens = tokens_,
                    .steps_done = steps_done_});
}

void Trainer::skip(const std::string& what) {
  say("step " + std::to_string(state_.step) + " skipped: " + what +
      "; the weights stay as they were");
  if (++state_.skips_in_a_row >= options_.abort_after_skips) {
    throw UserError("training diverged: " + std::to_string(state_.skips_in_a_row) +
                    " steps in a row without a finite loss and gradient; lower "
                    "training.learning_rate and begin again with --restart");
  }
}

void Trainer::update_average() {
  if (options_.average == 0) return;
  const at::NoGradGuard no_grad;
  // Early on the mean is over the few steps there were, not over the start's random weights.
  const double decay = std::min(options_.average, static_cast<double>(state_.step) /
                                                      (10.0 + static_cast<double>(state_.step)));
  std::vector<at::Tensor> means, weights;
  for (const auto& [name, tensor] : models::named_tensors(task_.module())) {
    means.push_back(state_.average.at(name));
    weights.push_back(tensor);
  }
  at::_foreach_lerp_(means, weights, 1 - decay);
}

void Trainer::swap_average() {
  const at::NoGradGuard no_grad;
  if (options_.average == 0) return;
  for (auto& [name, tensor] : models::named_tensors(task_.module())) {
    at::Tensor& mean = state_.average.at(name);
    const at::Tensor weights = tensor.clone();
    tensor.copy_(mean);
    mean.copy_(weights);
  }
}

bool Trainer::stalled() const {
  return options_.patience > 0 && state_.validations_without_progress >= options_.patience;
}

void Trainer::end_epoch() {
  task_.module().eval();
  swap_average();
  const Task::Validation validation = task_.validate();
  const bool best =
      std::isfinite(validation.loss) && (!state_.has_best || validation.loss < state_.best_loss);
  if (best) {
    state_.has_best = true;
    state_.best_loss = validation.loss;
    state_.validations_without_progress = 0;
    task_.save_best();
  } else {
    ++state_.validations_without_progress;
  }
  swap_average();
  schedule_.validated(validation.loss);
  const double train_loss =
      state_.loss_sum / static_cast<double>(std::max<int64_t>(1, state_.loss_tokens));
  say("epoch " + std::to_string(state_.epoch) + "  step " + std::to_string(state_.step) +
      "  loss " + fixed(train_loss, 4) + "  validation " + fixed(validation.loss, 4) +
      (validation.report.empty() ? "" : "  " + validation.report) + "  " +
      duration_text(seconds()) + (best ? "  best" : ""));
  state_.loss_sum = 0;
  state_.loss_tokens = 0;
}

}  // namespace

Outcome train(Task& task, const TrainingOptions& options, const std::filesystem::path& folder,
              const std::string& config, Start start) {
  Trainer trainer(task, options, folder, config);
  trainer.begin(start);
  return trainer.run();
}

}  // namespace heed::train
