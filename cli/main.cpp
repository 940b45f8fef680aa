// The program `heed`: reads the command line, runs one subcommand, turns every error into one line.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <malloc.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>

#include "cli/commands.h"
#include "heed/core/isa.h"
#include "heed/data/config.h"
#include "heed/data/error.h"

namespace {

// Batches allocate and free buffers of tens of megabytes: kept in the heap they are not paged in
// anew at each step (a sixth of a training step's time otherwise).
void keep_large_buffers() {
  constexpr int kLargest = 32 << 20;  // the most that glibc takes
  mallopt(M_MMAP_THRESHOLD, kLargest);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

void apply_environment() {
  if (const char* problem = heed::isa_problem()) throw heed::UserError(problem);
  const char* threads = std::getenv("HEED_THREADS");
  if (threads == nullptr || *threads == '\0') return;
  char* end = nullptr;
  const long count = std::strtol(threads, &end, 10);
  if (*end != '\0' || count < 1 || count > 4096) {
    throw heed::UserError(std::string("HEED_THREADS=") + threads +
                          ": expected a whole number from 1 to 4096");
  }
  at::set_num_threads(static_cast<int>(count));
}

// CLI11 reports an unknown subcommand as a stray argument; the nearest known one helps more.
std::string usage_error(const CLI::App& app, int argc, char** argv, const CLI::ParseError& error) {
  const auto subcommands = app.get_subcommands([](const CLI::App*) { return true; });
  std::vector<std::string> names;
  for (const CLI::App* command : subcommands) names.push_back(command->get_name());
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty()) {
    const std::string guess = heed::nearest(argv[1], names);
    return std::string("unknown subcommand '") + argv[1] + "'" +
           (guess.empty() ? "; see heed --help" : "; did you mean '" + guess + "'?");
  }
  std::string hint = "; see heed ";
  for (const CLI::App* command : app.get_subcommands()) hint += command->get_name() + " ";
  return std::string(error.what()) + hint + "--help";
}

std::string first_line(const char* text) {
  const std::string whole = text;
  return whole.substr(0, whole.find('\n'));
}

int fail(const std::string& message) {
  std::cerr << "heed: " << message << "\n";
  return heed::cli::kWrongInput;
}

}  // namespace

int main(int argc, char** argv) {
  keep_large_buffers();
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of write(), said in one line
  CLI::App app{
      "Attention models from the command line: train them, use them, see where they look."};
  app.require_subcommand(1);
  app.set_version_flag("--version", HEED_VERSION);
  int status = heed::cli::kDone;
  heed::cli::add_train(app, status);
  heed::cli::add_translate(app, status);
  heed::cli::add_evaluate(app, status);
  heed::cli::add_learn(app, status);
  heed::cli::add_doctor(app, status);
  try {
    apply_environment();
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    return fail(usage_error(app, argc, argv, error));
  } catch (const heed::UserError& error) {
    return fail(error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(error.path1().string() + ": " + error.code().message());
  } catch (const std::bad_alloc&) {
    return fail("out of memory; try a smaller batch_tokens or a smaller model");
  } catch (const c10::Error& error) {
    return fail(first_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return fail(first_line(error.what()));
  }
  if (!std::cout.flush()) return fail("standard output can't be written to");
  return status;
}
