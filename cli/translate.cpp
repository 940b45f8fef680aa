// heed translate --model DIR [TEXT...]: translations, and where the model looked.
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "heed/data/atomic_file.h"
#include "heed/data/error.h"
#include "heed/explain/alignment.h"
#include "heed/explain/heat_map.h"
#include "heed/explain/page.h"
#include "heed/models/translator.h"
#include "heed/train/stop_signal.h"

namespace heed::cli {
namespace {

struct TranslateArguments {
  std::string model, html;
  std::vector<std::string> text;
  int64_t beam = 5, n_best = 1, max_length = 200;
  double length_penalty = -1;  // the model's own
  bool json = false, attention = false;
};

// How many lines that are waiting already are translated together.
constexpr size_t kLinesAtOnce = 32;

struct Line {
  std::string text, place;  // "standard input, line 3"
};

class TranslateCommand {
 public:
  explicit TranslateCommand(const TranslateArguments& arguments)
      : arguments_(arguments), translator_(models::Translator::load(arguments.model)) {
    beam_ = {.beam = std::max(arguments.beam, arguments.n_best),
             .n_best = arguments.n_best,
             .length_penalty = arguments.length_penalty < 0 ? translator_.config().length_penalty
                                                            : arguments.length_penalty,
             .max_length = arguments.max_length};
    // Opened now, so that a name that can't be written is refused before the work.
    if (!arguments.html.empty()) page_.emplace(arguments.html);
  }

  int run() {
    const train::StopSignal stop;
    if (arguments_.text.empty()) {
      translate_input();
    } else {
      translate_arguments();
    }
    interrupted_ = train::StopSignal::requested();
    if (!arguments_.html.empty()) {
      const std::string page = attention_page(pages_);
      page_->write(page.data(), page.size());
      page_->commit();
      std::cerr << "wrote " << arguments_.html << "\n";
    }
    return interrupted_ ? kInterrupted : kDone;
  }

 private:
  bool wants_weights() const {
    return arguments_.json || arguments_.attention || !arguments_.html.empty();
  }

  void translate_arguments() {
    const std::vector<std::string>& text = arguments_.text;
    for (size_t begin = 0; begin < text.size() && !train::StopSignal::requested();) {
      std::vector<Line> lines;
      for (; begin < text.size() && lines.size() < kLinesAtOnce; ++begin) {
        lines.push_back({text[begin], "text " + std::to_string(begin + 1)});
      }
      translate(lines);
    }
  }

  // Blocks until there is input or its end; false when a signal asked to stop.
  static bool wait_for_input() {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    while (std::cin.rdbuf()->in_avail() <= 0 && poll(&input, 1, -1) < 0 && errno == EINTR) {
      if (train::StopSignal::requested()) return false;
    }
    return !train::StopSignal::requested();
  }

  // Waits for a line, then takes those that are there as well: quick for files, prompt for people.
  void translate_input() {
    std::ios::sync_with_stdio(false);
    size_t number = 0;
    std::string text;
    while (wait_for_input() && std::getline(std::cin, text)) {
      std::vector<Line> lines;
      do {
        if (!text.empty() && text.back() == '\r') text.pop_back();
        lines.push_back({text, "standard input, line " + std::to_string(++number)});
      } while (lines.size() < kLinesAtOnce && std::cin.rdbuf()->in_avail() > 0 &&
               std::getline(std::cin, text));
      translate(lines);
    }
    if (std::cin.bad()) throw UserError("standard input can't be read");
  }

  // Lines before a bad one are translated; the bad one ends the work with its place.
  void translate(const std::vector<Line>& lines) {
    std::vector<std::vector<int64_t>> sources;
    std::string problem;
    for (const Line& line : lines) {
      try {
        sources.push_back(translator_.encode_source(line.text));
      } catch (const UserError& error) {
        problem = line.place + ": " + error.what();
        break;
      }
    }
    const auto results = translator_.translate(
        sources, beam_, wants_weights() ? nn::Weights::kReturn : nn::Weights::kNone);
    for (size_t i = 0; i < results.size(); ++i) {
      for (const models::Translation& translation : results[i]) show(lines[i].text, translation);
    }
    std::cout.flush();
    if (!std::cout) throw UserError("standard output can't be written to");
    if (!problem.empty()) throw UserError(problem);
  }

  void show(const std::string& source, const models::Translation& translation) {
    if (!wants_weights()) {
      std::cout << translation.text << "\n";
      return;
    }
    Alignment alignment{.source = translation.source_tokens,
                        .target = translation.target_tokens,
                        .weights = translation.weights,
                        .source_text = source,
                        .target_text = translation.text,
                        .score = translation.score};
    if (arguments_.json) {
      std::cout << alignment_json(alignment) << "\n";
    } else if (arguments_.attention) {
      std::cout << source << " -> " << translation.text << "\n"
                << heat_map(alignment, style_) << "\n";
    } else {
      std::cout << translation.text << "\n";
    }
    if (arguments_.html.empty()) return;
    const models::TranslatorConfig& config = translator_.config();
    alignment.title = config.source_language + " → " + config.target_language;
    pages_.push_back(std::move(alignment));
  }

  const TranslateArguments& arguments_;
  models::Translator translator_;
  models::BeamOptions beam_;
  HeatMapStyle style_ = standard_output_style();
  std::optional<AtomicFile> page_;  // committed at the end
  std::vector<Alignment> pages_;
  bool interrupted_ = false;
};

}  // namespace

void add_translate(CLI::App& app, int& status) {
  const auto arguments = std::make_shared<TranslateArguments>();
  CLI::App* command = app.add_subcommand("translate", "Translate text with a trained model");
  command->add_option("--model", arguments->model, "Model folder, such as assets/en-zh")
      ->required();
  command->add_option("text", arguments->text,
                      "Sentences; without any, lines are read from standard input");
  command
      ->add_option("--beam", arguments->beam, "Width of the search, at least --n-best; 1 is greedy")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--n-best", arguments->n_best, "Translations of each sentence, best first")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command
      ->add_option("--length-penalty", arguments->length_penalty,
                   "Alpha of ((5 + length) / 6)^alpha; the model's own otherwise")
      ->check(CLI::Range(0.0, 10.0));
  command->add_option("--max-length", arguments->max_length, "Most tokens of a translation")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command->add_flag("--json", arguments->json,
                    "One JSON object a line: tokens, translation, score, attention [T][S]");
  command->add_flag("--attention", arguments->attention,
                    "Show where the model looked, as a heat map");
  command->add_option("--html", arguments->html, "Also write one self-contained page to FILE");
  command->callback([arguments, &status] { status = TranslateCommand(*arguments).run(); });
}

}  // namespace heed::cli
