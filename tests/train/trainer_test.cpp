#include "heed/train/trainer.h"

#include <ATen/Context.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "heed/data/error.h"
#include "heed/models/parameters.h"
#include "heed/train/checkpoint.h"
#include "tests/temporary_folder.h"

namespace heed::train {
namespace {

// Fits a line through noisy data, with dropout, so that the random state matters.
class LineTask final : public Task {
 public:
  LineTask() : model_(4, 1) {}
  torch::nn::Module& module() override { return *model_; }
  int64_t plan_epoch(int64_t epoch) override {
    epoch_ = epoch;
    return 5;
  }
  Loss loss(int64_t batch) override {
    ++losses;
    if (before_loss) before_loss(losses);
    const at::Tensor x = at::full({8, 4}, 0.1 * static_cast<double>(batch + epoch_));
    const at::Tensor error = model_(at::dropout(x, 0.5, /*train=*/true)) - x.sum(1, true) + poison;
    return {error.square().sum(), 8};
  }
  Validation validate() override {
    const double norm = model_->weight.detach().norm().item<double>();
    return {validation_loss ? validation_loss(epoch_) : norm, ""};
  }
  void save_best() override { ++saved; }

  torch::nn::Linear model_;
  int64_t losses = 0, saved = 0, epoch_ = 0;
  double poison = 0;
  std::function<void(int64_t)> before_loss;
  std::function<double(int64_t)> validation_loss;
};

TrainingOptions small(int64_t epochs) {
  TrainingOptions options;
  options.epochs = epochs;
  options.average = 0.9;
  options.schedule = {.name = "plateau", .warmup_steps = 3};
  options.log_every = 1000;
  return options;
}

models::NamedTensors trained(LineTask& task, const TrainingOptions& options,
                             const std::filesystem::path& folder, Start start, Outcome expected) {
  EXPECT_EQ(train(task, options, folder, "{}", start), expected);
  const Checkpoint checkpoint = load_checkpoint(folder / "checkpoint.safetensors");
  models::NamedTensors all = checkpoint.model;
  for (const auto& [name, tensor] : checkpoint.average) all["average." + name] = tensor;
  for (const auto& [name, tensor] : checkpoint.optimizer) all["optimizer." + name] = tensor;
  return all;
}

LineTask made_from_seed() {
  at::manual_seed(7);
  return {};
}

TEST(Trainer, AStoppedAndResumedTrainingEndsWithTheSameBits) {
  LineTask whole = made_from_seed();
  const auto expected =
      trained(whole, small(4), TemporaryFolder().path(), Start::kNew, Outcome::kFinished);
  for (const int64_t stop_at : {1, 4, 5, 6, 13, 20}) {
    const TemporaryFolder folder;
    LineTask first = made_from_seed();
    first.before_loss = [stop_at](int64_t step) {
      if (step == stop_at) raise(SIGTERM);
    };
    trained(first, small(4), folder.path(), Start::kNew, Outcome::kInterrupted);
    EXPECT_EQ(first.losses, stop_at);
    LineTask second;  // other initial weights: the checkpoint's must replace them
    const auto resumed =
        trained(second, small(4), folder.path(), Start::kResume, Outcome::kFinished);
    ASSERT_EQ(resumed.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      EXPECT_TRUE(resumed.at(name).equal(tensor)) << name << " after a stop at " << stop_at;
    }
  }
}

TEST(Trainer, ANonFiniteLossSkipsTheStep) {
  LineTask task = made_from_seed();
  task.before_loss = [&task](int64_t step) { task.poison = step == 3 ? NAN : 0; };
  const auto result =
      trained(task, small(2), TemporaryFolder().path(), Start::kNew, Outcome::kFinished);
  for (const auto& [name, tensor] : result) {
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  }
  EXPECT_EQ(task.losses, 10);
}

TEST(Trainer, GivesUpAfterTooManySkipsAndSaysWhatToDo) {
  LineTask task = made_from_seed();
  task.poison = INFINITY;
  TrainingOptions options = small(10);
  options.abort_after_skips = 4;
  try {
    train(task, options, TemporaryFolder().path(), "{}", Start::kNew);
    FAIL() << "a diverged training went on";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("learning_rate"), std::string::npos);
  }
  EXPECT_EQ(task.losses, 4);
}

TEST(Trainer, StopsEarlyAndSavesOnlyWhatIsBest) {
  LineTask task = made_from_seed();
  task.validation_loss = [](int64_t epoch) { return epoch <= 2 ? 10.0 - epoch : 20.0; };
  TrainingOptions options = small(10);
  options.patience = 3;
  const TemporaryFolder folder;
  trained(task, options, folder.path(), Start::kNew, Outcome::kFinished);
  EXPECT_EQ(task.losses, 5 * 5);  // two epochs with progress, three without
  EXPECT_EQ(task.saved, 2);
  trained(task, options, folder.path(), Start::kResume, Outcome::kFinished);
  EXPECT_EQ(task.losses, 5 * 5);  // it had stopped, and stays so
}

TEST(Trainer, AValidationThatIsNotFiniteIsNeverTheBest) {
  LineTask task = made_from_seed();
  task.validation_loss = [](int64_t epoch) { return epoch == 1 ? NAN : 5.0; };
  trained(task, small(2), TemporaryFolder().path(), Start::kNew, Outcome::kFinished);
  EXPECT_EQ(task.saved, 1);
}

TEST(Trainer, RefusesAFolderWithACheckpointUnlessTold) {
  const TemporaryFolder folder;
  LineTask task = made_from_seed();
  train(task, small(1), folder.path(), "{}", Start::kNew);
  EXPECT_THROW(train(task, small(1), folder.path(), "{}", Start::kNew), UserError);
  EXPECT_EQ(train(task, small(1), folder.path(), "{}", Start::kRestart), Outcome::kFinished);
}

TEST(Trainer, AResumedTrainingNeedsTheSameConfiguration) {
  const TemporaryFolder folder;
  LineTask task = made_from_seed();
  train(task, small(1), folder.path(), R"({"training": {"seed": 1}})", Start::kNew);
  try {
    train(task, small(1), folder.path(), R"({"training": {"seed": 2}})", Start::kResume);
    FAIL() << "another configuration was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("training.seed"), std::string::npos);
  }
}

TEST(AdamW, MatchesItsFormula) {
  torch::nn::Linear model(3, 2);
  const at::Tensor before = model->weight.detach().clone();
  AdamW optimizer(*model, {.beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-8, .weight_decay = 0.1});
  model->weight.mutable_grad() = at::full({2, 3}, 2.0);
  model->bias.mutable_grad() = at::full({2}, -1.0);
  const at::Tensor bias = model->bias.detach().clone();
  optimizer.step(0.01);
  // The first step moves by the rate, against the gradient's sign; matrices decay besides.
  EXPECT_TRUE(model->weight.detach().allclose(before * (1 - 0.01 * 0.1) - 0.01, 0, 1e-6));
  EXPECT_TRUE(model->bias.detach().allclose(bias + 0.01, 0, 1e-6));
}

TEST(AdamW, ClipsByTheGlobalNorm) {
  torch::nn::Linear model(2, 2);
  AdamW optimizer(*model, {});
  model->weight.mutable_grad() = at::full({2, 2}, 3.0);
  model->bias.mutable_grad() = at::full({2}, 4.0);
  const double norm = std::sqrt(4 * 9.0 + 2 * 16.0);
  EXPECT_NEAR(optimizer.clip_gradients(1.0), norm, 1e-5);
  EXPECT_NEAR(model->weight.grad()[0][0].item<double>(), 3 / norm, 1e-6);
  EXPECT_NEAR(model->bias.grad()[0].item<double>(), 4 / norm, 1e-6);
  EXPECT_NEAR(optimizer.clip_gradients(1.0), 1.0, 1e-5);  // now at the bound: left as it is
}

TEST(Schedule, RisesThenDecaysAsNamed) {
  const auto factor = [](const char* name, int64_t step) {
    return Schedule({.name = name, .warmup_steps = 10, .floor = 0.1}, 110).factor(step);
  };
  for (const char* name : {"inverse_sqrt", "linear", "plateau", "constant"}) {
    EXPECT_DOUBLE_EQ(factor(name, 5), 0.5) << name;
    EXPECT_DOUBLE_EQ(factor(name, 10), 1.0) << name;
  }
  EXPECT_DOUBLE_EQ(factor("inverse_sqrt", 40), 0.5);
  EXPECT_DOUBLE_EQ(factor("linear", 60), 0.5);
  EXPECT_DOUBLE_EQ(factor("linear", 110), 0.1);
  EXPECT_DOUBLE_EQ(factor("constant", 1000), 1.0);
}

TEST(Schedule, APlateauLowersTheRate) {
  Schedule schedule(
      {.name = "plateau", .warmup_steps = 1, .plateau_factor = 0.5, .plateau_patience = 1}, 100);
  schedule.validated(3);
  schedule.validated(4);
  EXPECT_DOUBLE_EQ(schedule.factor(10), 1.0);
  schedule.validated(5);
  EXPECT_DOUBLE_EQ(schedule.factor(10), 0.5);
  schedule.validated(2);
  EXPECT_DOUBLE_EQ(schedule.factor(10), 0.5);
}

TEST(Schedule, AnUnknownNameIsRefused) { EXPECT_THROW(Schedule({.name = "cosin"}, 10), UserError); }

}  // namespace
}  // namespace heed::train
