#include "heed/data/parallel_corpus.h"

#include <algorithm>
#include <unordered_map>

#include "heed/data/data_sets.h"
#include "heed/data/digest.h"
#include "heed/data/error.h"
#include "heed/data/lines.h"
#include "heed/data/text.h"

namespace heed {
namespace {

std::string column(const std::string& line, int64_t number) {
  size_t begin = 0;
  for (int64_t i = 1; i < number; ++i) {
    begin = line.find('\t', begin);
    if (begin == std::string::npos) return "";
    ++begin;
  }
  return line.substr(begin, line.find('\t', begin) - begin);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

void add_pair(std::vector<SentencePair>& pairs, const std::string& source,
              const std::string& target, const ParallelCorpusOptions& options) {
  SentencePair pair{options.source.apply(source), options.target.apply(target)};
  if (!pair.source.empty() && !pair.target.empty()) pairs.push_back(std::move(pair));
}

std::vector<SentencePair> load_tab_separated(const ParallelCorpusOptions& options,
                                             const std::filesystem::path& data_folder,
                                             Split split) {
  const std::filesystem::path file = require_data(data_folder, options.file);
  std::vector<SentencePair> pairs;
  int64_t number = 0;
  for (const std::string& line : read_lines(file)) {
    ++number;
    if (line.empty()) continue;
    const std::string source = column(line, options.source_column);
    const std::string target = column(line, options.target_column);
    if (source.empty() || target.empty()) {
      throw UserError(file.string() + ":" + std::to_string(number) + ": expected text in columns " +
                      std::to_string(options.source_column) + " and " +
                      std::to_string(options.target_column) + ", separated by tabs");
    }
    if (split_of(source, options.dev_percent, options.test_percent) == split) {
      add_pair(pairs, source, target, options);
    }
  }
  return pairs;
}

std::vector<SentencePair> load_line_files(const ParallelCorpusOptions& options,
                                          const std::filesystem::path& data_folder, Split split) {
  const auto& files = split == Split::kTrain ? options.train
                      : split == Split::kDev ? options.dev
                                             : options.test;
  if (files.size() != 2) {
    throw UserError(
        "data: expected 'file' (tab-separated), or 'train', 'dev' and 'test', each a list "
        "[source file, target file]");
  }
  const std::filesystem::path source_file = require_data(data_folder, files[0]);
  const std::filesystem::path target_file = require_data(data_folder, files[1]);
  const std::vector<std::string> source = read_lines(source_file);
  const std::vector<std::string> target = read_lines(target_file);
  if (source.size() != target.size()) {
    throw UserError(source_file.string() + " has " + std::to_string(source.size()) + " lines, " +
                    target_file.string() + " has " + std::to_string(target.size()) +
                    "; line i of one must translate line i of the other");
  }
  std::vector<SentencePair> pairs;
  for (size_t i = 0; i < source.size(); ++i) add_pair(pairs, source[i], target[i], options);
  return pairs;
}

}  // namespace

std::string TextRules::apply(const std::string& text) const {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string::npos) return "";
  std::string result = text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
  if (chinese_punctuation) {
    if (result.back() == '.' && (result.size() < 2 || result[result.size() - 2] != '.')) {
      result.replace(result.size() - 1, 1, "。");
    }
    constexpr std::pair<std::string_view, std::string_view> kFullWidth[] = {
        {",", "，"}, {"?", "？"}, {"!", "！"}, {":", "："}, {";", "；"}};
    for (const auto& [from, to] : kFullWidth) replace_all(result, from, to);
  }
  if (plain_you) {
    for (const std::string_view you : {"您", "妳"}) replace_all(result, you, "你");
  }
  if (simplified_chinese) result = to_simplified(result);
  if (lowercase) result = to_lower(result);
  return result;
}

Split split_of(const std::string& source, int64_t dev_percent, int64_t test_percent) {
  const int64_t bucket =
      static_cast<int64_t>(std::stoul(sha256(source).substr(0, 8), nullptr, 16) % 100);
  if (bucket < test_percent) return Split::kTest;
  return bucket < test_percent + dev_percent ? Split::kDev : Split::kTrain;
}

std::vector<SentencePair> load_pairs(const ParallelCorpusOptions& options,
                                     const std::filesystem::path& data_folder, Split split) {
  return options.file.empty() ? load_line_files(options, data_folder, split)
                              : load_tab_separated(options, data_folder, split);
}

std::vector<EvaluationItem> group_by_source(const std::vector<SentencePair>& pairs) {
  std::vector<EvaluationItem> items;
  std::unordered_map<std::string, size_t> index_of;
  for (const SentencePair& pair : pairs) {
    const auto [found, is_new] = index_of.try_emplace(pair.source, items.size());
    if (is_new) items.push_back({.source = pair.source, .references = {}});
    auto& references = items[found->second].references;
    if (std::find(references.begin(), references.end(), pair.target) == references.end()) {
      references.push_back(pair.target);
    }
  }
  return items;
}

}  // namespace heed
