#include "heed/train/checkpoint.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "heed/data/error.h"
#include "tests/temporary_folder.h"

namespace heed::train {
namespace {

Checkpoint example(int64_t step) {
  Checkpoint checkpoint;
  checkpoint.model["weight"] = at::full({64, 1024}, static_cast<double>(step));
  checkpoint.optimizer["weight.first_moment"] =
      at::full({64, 1024}, 0.5 * static_cast<double>(step));
  checkpoint.random_state = at::arange(100).to(at::kByte);
  checkpoint.step = step;
  checkpoint.epoch = 3;
  checkpoint.batch = 7;
  checkpoint.loss_sum = 0.1 + static_cast<double>(step) / 3;
  checkpoint.schedule.plateau_scale = 1.0 / 3;
  checkpoint.config = R"({"a": 1})";
  return checkpoint;
}

TEST(Checkpoint, ComesBackAsItWas) {
  const TemporaryFolder folder;
  const Checkpoint saved = example(12);
  save_checkpoint(folder / "c", saved);
  const Checkpoint loaded = load_checkpoint(folder / "c");
  EXPECT_TRUE(loaded.model.at("weight").equal(saved.model.at("weight")));
  EXPECT_TRUE(
      loaded.optimizer.at("weight.first_moment").equal(saved.optimizer.at("weight.first_moment")));
  EXPECT_TRUE(loaded.random_state.equal(saved.random_state));
  EXPECT_EQ(loaded.step, 12);
  EXPECT_EQ(loaded.epoch, 3);
  EXPECT_EQ(loaded.batch, 7);
  EXPECT_EQ(loaded.loss_sum, saved.loss_sum);  // every bit of a double survives its JSON
  EXPECT_EQ(loaded.schedule.plateau_scale, saved.schedule.plateau_scale);
  EXPECT_EQ(loaded.config, saved.config);
}

TEST(Checkpoint, ACutFileIsRefusedWithItsName) {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", example(1));
  std::filesystem::resize_file(folder / "c", std::filesystem::file_size(folder / "c") - 1);
  try {
    load_checkpoint(folder / "c");
    FAIL() << "a cut checkpoint was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find((folder / "c").string()), std::string::npos);
  }
}

// A child writes checkpoints without pause and is killed at 50 different moments.
TEST(Checkpoint, SurvivesFiftyKillsWhileWriting) {
  const TemporaryFolder folder;
  save_checkpoint(folder / "c", example(1));
  int64_t writes_seen = 0;
  for (int round = 0; round < 50; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      at::set_num_threads(1);  // the parent's OpenMP threads do not exist here
      for (int64_t step = 2;; ++step) save_checkpoint(folder / "c", example(step));
    }
    usleep(static_cast<useconds_t>(2000 + round * 731));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    waitpid(child, nullptr, 0);
    const Checkpoint loaded = load_checkpoint(folder / "c");  // throws unless it is whole
    ASSERT_TRUE(loaded.model.at("weight").eq(static_cast<double>(loaded.step)).all().item<bool>());
    writes_seen += loaded.step > 1;
  }
  EXPECT_GT(writes_seen, 10);  // the kills did fall among writes
}

}  // namespace
}  // namespace heed::train
