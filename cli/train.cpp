// heed train CONFIG.yaml: learn a model from a configuration.
#include <memory>

#include "cli/commands.h"
#include "heed/data/config.h"
#include "heed/data/data_sets.h"
#include "heed/train/translation_task.h"

namespace heed::cli {
namespace {

struct TrainArguments {
  std::string config, data;
  std::vector<std::string> set;
  bool resume = false, restart = false;
};

int run(const TrainArguments& arguments) {
  YAML::Node tree = load_yaml(arguments.config);
  for (const std::string& assignment : arguments.set) set_in_yaml(tree, assignment);
  const auto config = read_config<train::TranslationTraining>(tree, arguments.config);
  if (config.task != "translation") {
    throw UserError(arguments.config + ": task: expected translation, got '" + config.task + "'");
  }
  if (config.output.empty()) {
    throw UserError(arguments.config + ": output: name the folder the model goes to");
  }
  const train::Start start = arguments.resume    ? train::Start::kResume
                             : arguments.restart ? train::Start::kRestart
                                                 : train::Start::kNew;
  const train::Outcome outcome =
      train::train_translation(config, data_folder(arguments.data), start);
  return outcome == train::Outcome::kFinished ? kDone : kInterrupted;
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  const auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Train a model from a configuration");
  command
      ->add_option("config", arguments->config,
                   "Configuration, such as examples/translate-en-zh.yaml")
      ->required();
  command
      ->add_option("--set", arguments->set,
                   "Change a setting: key=value, such as training.epochs=3")
      ->take_all()
      ->allow_extra_args(false);
  add_data_option(*command, arguments->data);
  CLI::Option* resume = command->add_flag("--resume", arguments->resume,
                                          "Go on from the checkpoint in the output folder");
  command->add_flag("--restart", arguments->restart, "Begin again, over a checkpoint that is there")
      ->excludes(resume);
  command->footer(
      "Ctrl-C (or SIGTERM) saves a checkpoint and exits with 130; --resume goes on to the same "
      "bits.\nThe model goes to the folder that the setting 'output' names.");
  command->callback([arguments, &status] { status = run(*arguments); });
}

}  // namespace heed::cli
