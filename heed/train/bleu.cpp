// Corpus BLEU.
#include "heed/train/bleu.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "heed/data/text.h"
#include "heed/train/ngram_counts.h"

namespace heed {
namespace {

constexpr int kMaxOrder = BleuScore::kMaxOrder;

using Counts = NgramCounts<kMaxOrder>;

// Gives equal tokens equal numbers, within one segment.
class Numbering {
 public:
  explicit Numbering(const BleuOptions& options) : options_(options) {}

  std::vector<int32_t> numbers(const std::string& text) {
    std::vector<int32_t> numbers;
    for (const std::string& token :
         tokenize(options_.lowercase ? to_lower(text) : text, options_.tokenizer)) {
      numbers.push_back(
          number_of_.emplace(token, static_cast<int32_t>(number_of_.size())).first->second);
    }
    return numbers;
  }

 private:
  const BleuOptions& options_;
  std::unordered_map<std::string, int32_t> number_of_;
};

// The shorter one of two that are equally close.
int64_t closest_length(int64_t length, const std::vector<std::vector<int32_t>>& references) {
  auto closest = static_cast<int64_t>(references[0].size());
  for (const auto& reference : references) {
    const auto other = static_cast<int64_t>(reference.size());
    const int64_t gain = std::llabs(length - closest) - std::llabs(length - other);
    if (gain > 0 || (gain == 0 && other < closest)) closest = other;
  }
  return closest;
}

void add_segment(BleuScore& score, const std::string& hypothesis, const References& references,
                 const BleuOptions& options) {
  Numbering numbering(options);
  const std::vector<int32_t> hypothesis_tokens = numbering.numbers(hypothesis);
  std::vector<std::vector<int32_t>> reference_tokens;
  for (const std::string& text : references) reference_tokens.push_back(numbering.numbers(text));

  const auto length = static_cast<int64_t>(hypothesis_tokens.size());
  score.hypothesis_length += length;
  score.reference_length += closest_length(length, reference_tokens);
  for (int order = 1; order <= kMaxOrder; ++order) {
    const auto n = static_cast<std::size_t>(order);
    Counts allowed;
    for (const auto& tokens : reference_tokens) {
      allowed = larger_counts(allowed, count_ngrams<kMaxOrder>(tokens, n));
    }
    const Counts found = count_ngrams<kMaxOrder>(hypothesis_tokens, n);
    score.matches[n - 1] += count_matches(found, allowed);
    score.totals[n - 1] += std::max<int64_t>(0, length - order + 1);
  }
}

double brevity_penalty(const BleuScore& score) {
  if (score.hypothesis_length >= score.reference_length) return 1.0;
  if (score.hypothesis_length == 0) return 0.0;
  return std::exp(1.0 - static_cast<double>(score.reference_length) /
                            static_cast<double>(score.hypothesis_length));
}

// An order without a match counts as half, a quarter, ... of one match, as in NIST's mteval.
void set_precisions(BleuScore& score) {
  double unmatched = 1.0;
  for (std::size_t n = 0; n < kMaxOrder && score.totals[n] > 0; ++n) {
    const auto total = static_cast<double>(score.totals[n]);
    if (score.matches[n] == 0) unmatched *= 2.0;
    score.precisions[n] = score.matches[n] == 0
                              ? 100.0 / (unmatched * total)
                              : 100.0 * static_cast<double>(score.matches[n]) / total;
  }
}

double geometric_mean(const std::array<double, kMaxOrder>& precisions) {
  double sum = 0.0;
  for (const double precision : precisions) {
    if (precision == 0.0) return 0.0;
    sum += std::log(precision);
  }
  return std::exp(sum / kMaxOrder);
}

}  // namespace

double BleuScore::length_ratio() const {
  return reference_length == 0
             ? 0.0
             : static_cast<double>(hypothesis_length) / static_cast<double>(reference_length);
}

std::string BleuScore::to_string() const {
  char text[256];
  std::snprintf(text, sizeof(text),
                "BLEU = %.2f %.1f/%.1f/%.1f/%.1f (BP = %.3f ratio = %.3f hyp_len = %lld "
                "ref_len = %lld)",
                score, precisions[0], precisions[1], precisions[2], precisions[3], brevity_penalty,
                length_ratio(), static_cast<long long>(hypothesis_length),
                static_cast<long long>(reference_length));
  return text;
}

BleuScore corpus_bleu(std::span<const std::string> hypotheses,
                      std::span<const References> references, const BleuOptions& options) {
  check_segments(hypotheses, references);
  BleuScore score;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    add_segment(score, hypotheses[i], references[i], options);
  }
  score.signature =
      metric_signature(references, options.lowercase,
                       "eff:no|tok:" + std::string(name_of(options.tokenizer)) + "|smooth:exp");
  score.brevity_penalty = brevity_penalty(score);
  const bool any_match = std::any_of(score.matches.begin(), score.matches.end(),
                                     [](int64_t matches) { return matches > 0; });
  if (any_match) {
    set_precisions(score);
    score.score = score.brevity_penalty * geometric_mean(score.precisions);
  }
  return score;
}

}  // namespace heed
