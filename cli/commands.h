// The subcommands of `heed`: each adds itself to the command line; its callback does the work.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace heed::cli {

// Exit statuses: 0 done, 1 a finding, 2 wrong usage or input, 130 interrupted.
inline constexpr int kDone = 0, kFinding = 1, kWrongInput = 2, kInterrupted = 130;

void add_train(CLI::App& app, int& status);
void add_translate(CLI::App& app, int& status);
void add_evaluate(CLI::App& app, int& status);
void add_learn(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);

// --data, shared by several subcommands.
inline void add_data_option(CLI::App& command, std::string& data) {
  command.add_option("--data", data, "Folder of the data sets (default: the variable HEED_DATA)");
}

}  // namespace heed::cli
