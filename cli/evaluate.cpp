// heed evaluate --model DIR: BLEU and chrF of a translator on its held-out test set, or on files.
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "heed/data/data_sets.h"
#include "heed/data/error.h"
#include "heed/data/lines.h"
#include "heed/models/translator.h"
#include "heed/train/bleu.h"
#include "heed/train/chrf.h"

namespace heed::cli {
namespace {

struct EvaluateArguments {
  std::string model, data, split = "test", source, reference;
  int64_t beam = 5;
  double length_penalty = -1;
  bool json = false;
};

struct Scores {
  BleuScore bleu;
  ChrfScore chrf;
};

std::vector<EvaluationItem> from_files(const EvaluateArguments& arguments) {
  if (arguments.source.empty() || arguments.reference.empty()) {
    throw UserError("--source and --reference go together: two files, line i translates line i");
  }
  const std::vector<std::string> source = read_lines(arguments.source);
  const std::vector<std::string> reference = read_lines(arguments.reference);
  if (source.size() != reference.size()) {
    throw UserError(arguments.source + " has " + std::to_string(source.size()) + " lines, " +
                    arguments.reference + " has " + std::to_string(reference.size()));
  }
  std::vector<EvaluationItem> items;
  for (size_t i = 0; i < source.size(); ++i) items.push_back({source[i], {reference[i]}});
  return items;
}

std::vector<EvaluationItem> held_out(const EvaluateArguments& arguments,
                                     const ParallelCorpusOptions& corpus) {
  const Split split = arguments.split == "test" ? Split::kTest : Split::kDev;
  return group_by_source(load_pairs(corpus, data_folder(arguments.data), split));
}

Scores judge(const std::vector<std::string>& hypotheses, const std::vector<EvaluationItem>& items,
             const TextRules& rules, BleuTokenizer tokenizer) {
  std::vector<References> references;
  for (const EvaluationItem& item : items) {
    references.push_back(item.references);
    for (std::string& reference : references.back()) reference = rules.apply(reference);
  }
  return {
      corpus_bleu(hypotheses, references, {.tokenizer = tokenizer, .lowercase = rules.lowercase}),
      corpus_chrf(hypotheses, references, rules.lowercase)};
}

int run(const EvaluateArguments& arguments) {
  models::Translator translator = models::Translator::load(arguments.model);
  // The references as published; what rules the model was trained under is applied when judging.
  ParallelCorpusOptions corpus = translator.config().data;
  const TextRules rules = corpus.target;
  corpus.target = {};
  const std::vector<EvaluationItem> items = arguments.source.empty() && arguments.reference.empty()
                                                ? held_out(arguments, corpus)
                                                : from_files(arguments);
  if (items.empty())
    throw UserError("nothing to evaluate: the " + arguments.split + " set is empty");
  std::vector<std::vector<int64_t>> sources;
  for (size_t i = 0; i < items.size(); ++i) {
    try {
      sources.push_back(translator.encode_source(items[i].source));
    } catch (const UserError& error) {
      const std::string& file = arguments.source;
      throw UserError((file.empty() ? arguments.split + " sentence " : file + ":") +
                      std::to_string(i + 1) + ": " + error.what());
    }
  }
  const models::BeamOptions beam{.beam = arguments.beam,
                                 .length_penalty = arguments.length_penalty < 0
                                                       ? translator.config().length_penalty
                                                       : arguments.length_penalty,
                                 .max_length = 200};
  std::vector<std::string> hypotheses;
  for (auto& best : translator.translate(sources, beam, nn::Weights::kNone)) {
    hypotheses.push_back(best.empty() ? "" : best.front().text);
  }
  const BleuTokenizer tokenizer =
      translator.config().target_language == "zh" ? BleuTokenizer::kZh : BleuTokenizer::k13a;
  const Scores scores = judge(hypotheses, items, rules, tokenizer);
  const Scores published = judge(hypotheses, items, {.lowercase = rules.lowercase}, tokenizer);
  if (arguments.json) {
    std::cout << nlohmann::ordered_json{{"sentences", items.size()},
                                        {"bleu", scores.bleu.score},
                                        {"bleu_signature", scores.bleu.signature},
                                        {"chrf", scores.chrf.score},
                                        {"chrf_signature", scores.chrf.signature},
                                        {"bleu_published_references", published.bleu.score},
                                        {"chrf_published_references", published.chrf.score}}
              << "\n";
  } else {
    std::cout << items.size() << " sentences, beam " << beam.beam << ", length penalty "
              << beam.length_penalty << "\n"
              << scores.bleu.to_string() << "\n  " << scores.bleu.signature << "\n"
              << scores.chrf.to_string() << "\n  " << scores.chrf.signature << "\n";
    if (published.bleu.score != scores.bleu.score) {
      char line[160];
      std::snprintf(line, sizeof line,
                    "against the references as published, without the model's text rules: "
                    "BLEU %.2f, chrF2 %.2f\n",
                    published.bleu.score, published.chrf.score);
      std::cout << line;
    }
  }
  return kDone;
}

}  // namespace

void add_evaluate(CLI::App& app, int& status) {
  const auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command =
      app.add_subcommand("evaluate", "BLEU and chrF of a translator, as sacreBLEU counts them");
  command->add_option("--model", arguments->model, "Model folder, such as assets/en-zh")
      ->required();
  add_data_option(*command, arguments->data);
  command->add_option("--split", arguments->split, "Held-out part of the model's corpus")
      ->capture_default_str()
      ->check(CLI::IsMember({"test", "dev"}));
  command->add_option("--source", arguments->source, "Sentences of one's own, one a line");
  command->add_option("--reference", arguments->reference, "Their translations");
  command->add_option("--beam", arguments->beam, "Width of the search")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command
      ->add_option("--length-penalty", arguments->length_penalty,
                   "Alpha; the model's own otherwise")
      ->check(CLI::Range(0.0, 10.0));
  command->add_flag("--json", arguments->json, "One JSON object");
  command->callback([arguments, &status] { status = run(*arguments); });
}

}  // namespace heed::cli
