#include "heed/train/checkpoint.h"

#include <nlohmann/json.hpp>

#include "heed/data/error.h"
#include "heed/data/safetensors.h"

namespace heed::train {
namespace {

constexpr const char* kFormat = "heed-checkpoint-1";

void add(TensorMap& all, const std::string& prefix, const models::NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) all[prefix + name] = tensor;
}

models::NamedTensors take(const TensorMap& all, const std::string& prefix) {
  models::NamedTensors tensors;
  for (const auto& [name, tensor] : all) {
    if (name.rfind(prefix, 0) == 0) tensors[name.substr(prefix.size())] = tensor;
  }
  return tensors;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const Checkpoint& c) {
  TensorMap tensors;
  add(tensors, "model.", c.model);
  add(tensors, "optimizer.", c.optimizer);
  add(tensors, "average.", c.average);
  tensors["random_state"] = c.random_state;
  const nlohmann::json state = {
      {"step", c.step},
      {"epoch", c.epoch},
      {"batch", c.batch},
      {"plateau_scale", c.schedule.plateau_scale},
      {"plateau_best", c.schedule.best_loss},
      {"plateau_has_best", c.schedule.has_best},
      {"plateau_waited", c.schedule.without_progress},
      {"best_loss", c.best_loss},
      {"has_best", c.has_best},
      {"validations_without_progress", c.validations_without_progress},
      {"skips_in_a_row", c.skips_in_a_row},
      {"loss_sum", c.loss_sum},
      {"loss_tokens", c.loss_tokens},
      {"seconds", c.seconds},
  };
  write_safetensors(file, tensors,
                    {{"format", kFormat}, {"state", state.dump()}, {"config", c.config}});
}

Checkpoint load_checkpoint(const std::filesystem::path& file) {
  const TensorFile saved = read_safetensors(file);
  const auto text = [&](const std::string& key) {
    const auto found = saved.metadata.find(key);
    return found == saved.metadata.end() ? "" : found->second;
  };
  if (text("format") != kFormat || saved.tensors.count("random_state") == 0) {
    throw UserError(file.string() + ": not a checkpoint of heed train");
  }
  Checkpoint c;
  c.model = take(saved.tensors, "model.");
  c.optimizer = take(saved.tensors, "optimizer.");
  c.average = take(saved.tensors, "average.");
  c.random_state = saved.tensors.at("random_state");
  c.config = text("config");
  try {
    const auto state = nlohmann::json::parse(text("state"));
    state.at("step").get_to(c.step);
    state.at("epoch").get_to(c.epoch);
    state.at("batch").get_to(c.batch);
    state.at("plateau_scale").get_to(c.schedule.plateau_scale);
    state.at("plateau_best").get_to(c.schedule.best_loss);
    state.at("plateau_has_best").get_to(c.schedule.has_best);
    state.at("plateau_waited").get_to(c.schedule.without_progress);
    state.at("best_loss").get_to(c.best_loss);
    state.at("has_best").get_to(c.has_best);
    state.at("validations_without_progress").get_to(c.validations_without_progress);
    state.at("skips_in_a_row").get_to(c.skips_in_a_row);
    state.at("loss_sum").get_to(c.loss_sum);
    state.at("loss_tokens").get_to(c.loss_tokens);
    state.at("seconds").get_to(c.seconds);
  } catch (const nlohmann::json::exception& error) {
    throw UserError(file.string() + ": broken training state (" + error.what() + ")");
  }
  return c;
}

}  // namespace heed::train
