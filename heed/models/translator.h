// A translator as people use it: a folder with a configuration, weights and two subword models;
// text in, text out, and the attention between them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "heed/data/parallel_corpus.h"
#include "heed/data/subwords.h"
#include "heed/models/beam_search.h"
#include "heed/models/rnn_translator.h"

namespace heed::models {

// config.json of the folder.
struct TranslatorConfig {
  std::string model_type;  // rnn_translator: a file that does not say so is not ours
  std::string source_language = "source", target_language = "target";
  double length_penalty = 1.0;
  ParallelCorpusOptions data;  // what it was trained on, so that `evaluate` finds the test set
  RnnTranslatorOptions model;

  template <class Visitor>
  void visit(Visitor& v) {
    v("model_type", model_type);
    v("source_language", source_language);
    v("target_language", target_language);
    v("length_penalty", length_penalty, {0, 10});
    v("data", data);
    v("model", model);
  }
};

struct Translation {
  std::string text;
  double score = 0;                        // length-normalised log probability
  std::vector<std::string> source_tokens;  // S subwords, the end mark included
  std::vector<std::string> target_tokens;  // T subwords
  std::vector<float> weights;  // [T,S] row major, each row sums to 1; empty unless asked for
};

class Translator {
 public:
  // A longer source is refused: the model has seen no such sentence, and memory would grow with it.
  static constexpr int64_t kMaxSourceTokens = 512;

  Translator(TranslatorConfig config, Subwords source, Subwords target);
  static Translator load(const std::filesystem::path& folder);

  // Every file of the folder but the weights. Call before save_weights.
  void save_description(const std::filesystem::path& folder) const;
  void save_weights(const std::filesystem::path& folder, at::ScalarType dtype) const;

  // The source as the model reads it, the end mark included. UserError when the text is empty, not
  // UTF-8 or too long; the message has no place in it, the caller adds one.
  std::vector<int64_t> encode_source(const std::string& text) const;

  // n-best translations of each encoded source, best first.
  std::vector<std::vector<Translation>> translate(const std::vector<std::vector<int64_t>>& sources,
                                                  const BeamOptions& beam, nn::Weights weights);

  const TranslatorConfig& config() const { return config_; }
  const Subwords& source_subwords() const { return source_; }
  const Subwords& target_subwords() const { return target_; }
  RnnTranslator model() const { return model_; }

 private:
  Translation finish(const std::vector<int64_t>& source, Hypothesis hypothesis,
                     nn::Weights weights) const;

  TranslatorConfig config_;
  Subwords source_, target_;
  RnnTranslator model_{nullptr};
};

}  // namespace heed::models
