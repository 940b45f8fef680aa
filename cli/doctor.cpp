// heed doctor: what this machine, this build and the data folder have, and what is missing.
#include <ATen/Parallel.h>
#include <torch/csrc/api/include/torch/version.h>

#include <fstream>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "heed/core/isa.h"
#include "heed/data/data_sets.h"
#include "heed/data/digest.h"

namespace heed::cli {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string kernel_sets() {
  std::string sets;
  for (const Isa candidate : {Isa::kRef, Isa::kV2, Isa::kV3, Isa::kV4}) {
    if (isa_runs_here(candidate))
      sets += std::string(sets.empty() ? "" : " ") + isa_name(candidate);
  }
  return sets;
}

// Prints the state of one data set; false when a file of it differs from its checksum.
bool report(const DataSet& set, const std::filesystem::path& folder) {
  bool missing = false, sound = true;
  std::string problems;
  for (const DataFile& file : set.files) {
    if (!std::filesystem::exists(folder / file.path)) {
      missing = true;
      problems += "    missing " + file.path + "  sha256 " + file.sha256 + "\n";
    } else if (sha256_of_file(folder / file.path) != file.sha256) {
      sound = false;
      problems += "    differs " + file.path + "  expected sha256 " + file.sha256 + "\n";
    }
  }
  std::cout << "  " << set.name << ": "
            << (missing ? "missing"
                : sound ? "found, checksums right"
                        : "altered")
            << " (" << set.title << "; " << set.licence << ")\n";
  if (!problems.empty()) std::cout << problems << "    home " << set.home << "\n";
  return sound;
}

int run(const std::string& data_option) {
  std::cout << "heed       " << HEED_VERSION << "\n"
            << "torch      " << TORCH_VERSION << ", " << at::get_num_threads() << " threads\n"
            << "processor  " << processor_name() << "\n"
            << "kernels    " << isa_name(isa())
            << " in use (HEED_ISA forces one of: " << kernel_sets() << ")\n";
  const std::filesystem::path folder = data_folder(data_option);
  std::cout << "data       "
            << (folder.empty() ? "no folder named; use --data or HEED_DATA" : folder.string())
            << "\n";
  bool sound = true;
  for (const DataSet& set : known_data_sets()) sound = report(set, folder) && sound;
  return sound ? kDone : kFinding;
}

}  // namespace

void add_doctor(CLI::App& app, int& status) {
  const auto data = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("doctor", "Say what machine, kernels, torch and data are found");
  add_data_option(*command, *data);
  command->callback([data, &status] { status = run(*data); });
}

}  // namespace heed::cli
