// Sentence pairs for translation: from one tab-separated file or from pairs of line files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace heed {

struct SentencePair {
  std::string source, target;
};

// A source sentence with every translation the corpus has of it.
struct EvaluationItem {
  std::string source;
  std::vector<std::string> references;
};

// How text is put before anything reads it.
struct TextRules {
  bool lowercase = false;
  bool simplified_chinese = false;   // traditional characters become simplified ones
  bool chinese_punctuation = false;  // , ? ! : ; become full width, a closing . becomes 。
  bool plain_you = false;            // 您 and 妳 become 你: English does not say which is meant
  std::string apply(const std::string& text) const;

  template <class Visitor>
  void visit(Visitor& v) {
    v("lowercase", lowercase);
    v("simplified_chinese", simplified_chinese);
    v("chinese_punctuation", chinese_punctuation);
    v("plain_you", plain_you);
  }
};

// Either `file` (tab-separated, split by hash) or `train`, `dev` and `test` (each [source,
// target]). Paths are relative to the data folder.
struct ParallelCorpusOptions {
  std::string file;
  int64_t source_column = 1, target_column = 2;  // counted from 1
  int64_t dev_percent = 2, test_percent = 2;     // of the source sentences, chosen by their hash
  std::vector<std::string> train, dev, test;
  TextRules source, target;

  template <class Visitor>
  void visit(Visitor& v) {
    v("file", file);
    v("source_column", source_column, {1, 1000});
    v("target_column", target_column, {1, 1000});
    v("dev_percent", dev_percent, {0, 50});
    v("test_percent", test_percent, {0, 50});
    v("train", train);
    v("dev", dev);
    v("test", test);
    v("source", source);
    v("target", target);
  }
};

enum class Split { kTrain, kDev, kTest };

// The split of a sentence: the first 32 bits of its SHA-256, modulo 100, below `test_percent` is
// test, below `test_percent + dev_percent` dev. Equal sentences always fall together.
Split split_of(const std::string& source, int64_t dev_percent, int64_t test_percent);

// The pairs of a split, after the text rules; a pair with an empty side is left out.
std::vector<SentencePair> load_pairs(const ParallelCorpusOptions& options,
                                     const std::filesystem::path& data_folder, Split split);

// The distinct sources of the pairs in their first order, each with all its distinct translations.
std::vector<EvaluationItem> group_by_source(const std::vector<SentencePair>& pairs);

}  // namespace heed
