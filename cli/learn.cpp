// heed learn NAME: a mechanism learns a task whose right attention is known, and is judged by it.
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "heed/data/atomic_file.h"
#include "heed/data/config.h"
#include "heed/data/error.h"
#include "heed/data/text.h"
#include "heed/explain/heat_map.h"
#include "heed/explain/heat_map_svg.h"
#include "heed/explain/token_label.h"
#include "heed/learn/school.h"
#include "heed/train/stop_signal.h"

namespace heed::cli {
namespace {

using Json = nlohmann::ordered_json;
using learn::Lesson, learn::Report;

struct LearnArguments {
  std::vector<std::string> names;
  std::string svg;
  int64_t seed = 1, seeds = 1, steps = 0;
  bool list = false, all = false, json = false;
};

// --- Text ----------------------------------------------------------------------------------------

constexpr int kTextWidth = 80;

// "  task      Words and words,
//              and more words."
std::string part(const std::string& name, const std::string& text) {
  constexpr int kIndent = 13;
  std::string lines = pad_to_width("  " + name, kIndent);
  int used = kIndent;
  for (const std::string_view word : split_whitespace(text)) {
    const int width = display_width(word);
    if (used > kIndent && used + 1 + width > kTextWidth) {
      lines += "\n" + std::string(kIndent, ' ');
      used = kIndent;
    }
    if (used > kIndent) lines += " ";
    used += width + (used > kIndent ? 1 : 0);
    lines += word;
  }
  return lines + "\n";
}

template <class... Arguments>
std::string format(const char* pattern, Arguments... arguments) {
  char text[160];
  std::snprintf(text, sizeof text, pattern, arguments...);
  return text;
}

// "-" for a rate of nothing: a mechanism without weights, or no question of where.
std::string rate(double share) { return std::isfinite(share) ? format("%.3f", share) : "-"; }

std::string outcome(const Lesson& lesson, const Report& report) {
  if (report.interrupted) {
    return format("interrupted after step %lld", static_cast<long long>(report.steps));
  }
  if (lesson.must_fail()) return report.passed(lesson) ? "fails, as it must" : "DID NOT FAIL";
  return report.passed(lesson) ? "passed" : "NOT PASSED";
}

std::string table_head(size_t name_width) {
  return pad_to_width("lesson", static_cast<int>(name_width)) +
         "  seed  accuracy  hit rate  chance  seconds\n";
}

std::string table_row(const Lesson& lesson, int64_t seed, const Report& report, size_t name_width) {
  return pad_to_width(lesson.name, static_cast<int>(name_width)) +
         format("  %4lld  %8s  %8s  %6s  %7.1f  ", static_cast<long long>(seed),
                rate(report.accuracy).c_str(), rate(report.hit_rate).c_str(),
                rate(report.chance).c_str(), report.seconds) +
         outcome(lesson, report) + "\n";
}

std::string opening(const Lesson& lesson) {
  std::string text =
      lesson.name + "\n" + part("mechanism", lesson.mechanism) + part("task", lesson.task);
  if (lesson.must_fail()) text += part("must fail", lesson.cannot);
  return text;
}

// What is said of one lesson by itself, after its opening.
std::string findings(const Lesson& lesson, int64_t seed, const Report& report) {
  const std::string wanted = lesson.must_fail()
                                 ? format("under %.2f wanted: it can't", lesson.most_accuracy)
                                 : format("%.2f wanted", learn::kWantedAccuracy);
  std::string text =
      part("trained",
           format("%lld steps, %lld parameters, seed %lld, %.1f s",
                  static_cast<long long>(report.steps), static_cast<long long>(report.parameters),
                  static_cast<long long>(seed), report.seconds)) +
      part("accuracy", rate(report.accuracy) +
                           format(" of %lld answers (", static_cast<long long>(report.questions)) +
                           wanted + ")") +
      part("hit rate",
           rate(report.hit_rate) + " of rows look most where the answer stands" +
               (lesson.must_fail() ? "" : format(" (%.2f wanted)", learn::kWantedHitRate))) +
      part("chance", rate(report.chance) + " is the hit rate of a guess");
  if (!report.example.title.empty()) text += part("example", report.example.title);
  return text + "\n" + heat_map(report.example, standard_output_style()) + "\n" + lesson.name +
         ": " + outcome(lesson, report) + "\n";
}

// --- JSON ----------------------------------------------------------------------------------------

Json described(const Lesson& lesson) {
  Json object = {{"name", lesson.name},
                 {"mechanism", lesson.mechanism},
                 {"page", lesson.page},
                 {"task", lesson.task},
                 {"must_fail", lesson.must_fail()}};
  if (lesson.must_fail()) object["cannot"] = lesson.cannot;
  return object;
}

// A number, or null where there is none.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json example_json(const Alignment& example) {
  const auto texts = [](const std::vector<std::string>& tokens) {
    std::vector<std::string> all;
    for (const TokenLabel& label : token_labels(tokens)) all.push_back(label.text);
    return all;
  };
  Json weights = Json::array(), planted = Json::array();
  for (size_t t = 0; t < example.target.size(); ++t) {
    Json row = Json::array(), places = Json::array();
    for (size_t s = 0; s < example.source.size(); ++s) {
      row.push_back(Json::parse(format_weight(example.weight(t, s))));
      if (example.is_planted(t, s)) places.push_back(s);
    }
    weights.push_back(std::move(row));
    planted.push_back(std::move(places));
  }
  return {{"source_tokens", texts(example.source)},
          {"target_tokens", texts(example.target)},
          {"attention", std::move(weights)},
          {"planted", std::move(planted)}};
}

Json report_json(const Lesson& lesson, int64_t seed, const Report& report) {
  Json object = described(lesson);
  object.update({{"seed", seed},
                 {"steps", report.steps},
                 {"parameters", report.parameters},
                 {"questions", report.questions},
                 {"accuracy", number(report.accuracy)},
                 {"hit_rate", number(report.hit_rate)},
                 {"chance", number(report.chance)},
                 {"loss", number(report.loss)},
                 {"seconds", report.seconds},
                 {"interrupted", report.interrupted},
                 {"passed", !report.interrupted && report.passed(lesson)},
                 {"example", example_json(report.example)}});
  return object;
}

// --- Progress ------------------------------------------------------------------------------------

// One line of standard error that is drawn over and over and leaves nothing behind; nothing where
// standard error is no terminal, as the work takes seconds.
class LiveLine {
 public:
  explicit LiveLine(std::string name) : name_(std::move(name)) {
    const char* term = std::getenv("TERM");
    live_ = isatty(STDERR_FILENO) != 0 && term != nullptr && std::string(term) != "dumb";
  }
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;
  ~LiveLine() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }

  void update(const learn::Step& step) {
    constexpr int64_t kBarCells = 12;
    constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
    const auto now = std::chrono::steady_clock::now();
    if (!live_ || (drawn_ && now - last_drawn_ < kRedrawEvery)) return;
    last_drawn_ = now;
    drawn_ = true;
    std::string bar;
    for (int64_t i = 0; i < kBarCells; ++i) {
      bar += i * step.steps < step.step * kBarCells ? "█" : "░";
    }
    std::fprintf(stderr, "\r\033[K%s %s  step %lld/%lld  loss %.3f", bar.c_str(), name_.c_str(),
                 static_cast<long long>(step.step), static_cast<long long>(step.steps), step.loss);
    std::fflush(stderr);
  }

 private:
  std::string name_;
  bool live_ = false, drawn_ = false;
  std::chrono::steady_clock::time_point last_drawn_;
};

// --- The command ---------------------------------------------------------------------------------

class LearnCommand {
 public:
  explicit LearnCommand(const LearnArguments& arguments) : arguments_(arguments) {
    lessons_ = arguments.all || arguments.list ? learn::all_lessons() : named();
    for (const Lesson& lesson : lessons_) name_width_ = std::max(name_width_, lesson.name.size());
    several_ = lessons_.size() > 1 || arguments.seeds > 1;
    if (!arguments.svg.empty() && several_) {
      throw UserError("--svg draws one lesson of one seed");
    }
    // Opened now, so that a name that can't be written is refused before the work.
    if (!arguments.svg.empty()) picture_.emplace(arguments.svg);
  }

  int run() {
    if (arguments_.list) return list();
    // What fits into the first cache is soonest done by one thread.
    if (std::getenv("HEED_THREADS") == nullptr) at::set_num_threads(1);
    const train::StopSignal stop;
    if (!arguments_.json) {
      show(several_ ? table_head(name_width_) : opening(lessons_.front()));
    }
    int64_t runs = 0, found = 0;
    for (const Lesson& lesson : lessons_) {
      for (int64_t i = 0; i < arguments_.seeds; ++i, ++runs) {
        const Report report = study(lesson, arguments_.seed + i);
        if (report.interrupted) return kInterrupted;
        found += report.passed(lesson) ? 0 : 1;
      }
    }
    if (several_ && !arguments_.json) {
      show(format("%lld of %lld as they must be\n", static_cast<long long>(runs - found),
                  static_cast<long long>(runs)));
    }
    return found == 0 ? kDone : kFinding;
  }

 private:
  std::vector<Lesson> named() const {
    if (arguments_.names.empty()) throw UserError("name a lesson, or --list, or --all");
    const std::vector<Lesson> all = learn::all_lessons();
    std::vector<Lesson> chosen;
    for (const std::string& name : arguments_.names) {
      const auto found = std::find_if(all.begin(), all.end(),
                                      [&](const Lesson& lesson) { return lesson.name == name; });
      if (found == all.end()) throw UserError(unknown(name, all));
      chosen.push_back(*found);
    }
    return chosen;
  }

  static std::string unknown(const std::string& name, const std::vector<Lesson>& all) {
    std::vector<std::string> names;
    for (const Lesson& lesson : all) names.push_back(lesson.name);
    const std::string guess = nearest(name, names);
    return "unknown lesson '" + name + "'" +
           (guess.empty() ? "; see heed learn --list" : "; did you mean '" + guess + "'?");
  }

  int list() const {
    if (arguments_.json) {
      Json all = Json::array();
      for (const Lesson& lesson : lessons_) all.push_back(described(lesson));
      show(all.dump() + "\n");
      return kDone;
    }
    for (const Lesson& lesson : lessons_) show(opening(lesson));
    return kDone;
  }

  Report study(const Lesson& lesson, int64_t seed) {
    const Report report = [&] {
      LiveLine line(lesson.name);
      return learn::study(lesson, {.seed = seed, .steps = arguments_.steps},
                          [&](const learn::Step& step) {
                            line.update(step);
                            return !train::StopSignal::requested();
                          });
    }();
    if (arguments_.json) {
      show(report_json(lesson, seed, report).dump() + "\n");
    } else {
      show(several_ ? table_row(lesson, seed, report, name_width_)
                    : findings(lesson, seed, report));
    }
    if (picture_) draw(lesson, report);
    return report;
  }

  void draw(const Lesson& lesson, const Report& report) {
    Alignment example = report.example;
    example.title = lesson.mechanism + (example.title.empty() ? "" : ", " + example.title);
    const std::string picture = heat_map_svg(example);
    picture_->write(picture.data(), picture.size());
    picture_->commit();
    std::cerr << "wrote " << arguments_.svg << "\n";
  }

  static void show(const std::string& text) {
    if (!(std::cout << text << std::flush)) {
      throw UserError("standard output can't be written to");
    }
  }

  const LearnArguments& arguments_;
  std::vector<Lesson> lessons_;
  size_t name_width_ = 0;
  bool several_ = false;  // one line of a table each
  std::optional<AtomicFile> picture_;
};

}  // namespace

void add_learn(CLI::App& app, int& status) {
  const auto arguments = std::make_shared<LearnArguments>();
  CLI::App* command = app.add_subcommand(
      "learn",
      "Train a mechanism on a task whose right attention is known, and show where it looks");
  CLI::Option* names =
      command->add_option("names", arguments->names, "Lessons, such as additive; see --list");
  CLI::Option* all = command->add_flag("--all", arguments->all, "Every lesson, as one table");
  command->add_flag("--list", arguments->list, "Say what lessons there are, and train nothing")
      ->excludes(names)
      ->excludes(all);
  all->excludes(names);
  command->add_option("--seed", arguments->seed, "Seed of the parameters and of the examples")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53));
  command->add_option("--seeds", arguments->seeds, "How many seeds, from --seed on, as one table")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command->add_option("--steps", arguments->steps, "Steps of training; the lesson's own otherwise")
      ->check(CLI::Range(1, 100'000'000));
  command->add_option("--svg", arguments->svg,
                      "Also draw the example's weights, as a picture that goes to FILE");
  command->add_flag("--json", arguments->json,
                    "One JSON object a lesson: the figures and the example's weights [T][S]");
  command->footer(
      "A lesson passes when 98 in 100 answers are right and 98 in 100 of the largest weights lie\n"
      "where the answer stands. Some are of a mechanism that can't do a task, and must fail it.\n"
      "Exit status: 0 all as it must be, 1 some not, 2 wrong input, 130 interrupted (Ctrl-C ends\n"
      "the training; what was reached is judged and shown).");
  command->callback([arguments, &status] { status = LearnCommand(*arguments).run(); });
}

}  // namespace heed::cli
