// Corpus chrF2.
#include "heed/train/chrf.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "heed/data/text.h"
#include "heed/train/ngram_counts.h"

namespace heed {
namespace {

constexpr int kMaxOrder = 6;
constexpr double kBetaSquared = 4.0;

using OrderCounts = std::array<NgramCounts<kMaxOrder>, kMaxOrder>;

struct OrderStatistics {
  int64_t hypothesis = 0, reference = 0, matches = 0;
};
using Statistics = std::array<OrderStatistics, kMaxOrder>;

struct Segment {
  int64_t length;  // characters
  OrderCounts counts;
};

int64_t ngrams_in(int64_t length, int order) { return std::max<int64_t>(0, length - order + 1); }

Segment count_characters(const std::string& text, bool lowercase) {
  std::vector<int32_t> characters;
  for (const char32_t c : code_points(lowercase ? to_lower(text) : text)) {
    if (!is_space(c)) characters.push_back(static_cast<int32_t>(c));
  }
  Segment segment{static_cast<int64_t>(characters.size()), {}};
  for (std::size_t n = 1; n <= kMaxOrder; ++n) {
    segment.counts[n - 1] = count_ngrams<kMaxOrder>(characters, n);
  }
  return segment;
}

Statistics compare(const Segment& hypothesis, const Segment& reference) {
  Statistics statistics;
  for (std::size_t i = 0; i < kMaxOrder; ++i) {
    const int order = static_cast<int>(i) + 1;
    const int64_t in_reference = ngrams_in(reference.length, order);
    // Against a reference too short for this order, the hypothesis is not counted either.
    statistics[i] = {in_reference > 0 ? ngrams_in(hypothesis.length, order) : 0, in_reference,
                     count_matches(hypothesis.counts[i], reference.counts[i])};
  }
  return statistics;
}

// Precision and recall are means over the orders that both sides have, then combined.
double f_score(const Statistics& statistics) {
  double precision = 0.0, recall = 0.0;
  int orders = 0;
  for (const auto& [hypothesis, reference, matches] : statistics) {
    if (hypothesis == 0 || reference == 0) continue;
    precision += static_cast<double>(matches) / static_cast<double>(hypothesis);
    recall += static_cast<double>(matches) / static_cast<double>(reference);
    ++orders;
  }
  if (orders == 0 || precision + recall == 0.0) return 0.0;
  precision /= orders;
  recall /= orders;
  return 100.0 * ((1.0 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall));
}

// The statistics against the reference with the best score, the first such.
Statistics best_statistics(const std::string& hypothesis, const References& references,
                           bool lowercase) {
  const Segment counted = count_characters(hypothesis, lowercase);
  Statistics best;
  double best_score = -1.0;
  for (const std::string& reference : references) {
    const Statistics statistics = compare(counted, count_characters(reference, lowercase));
    const double score = f_score(statistics);
    if (score > best_score) {
      best = statistics;
      best_score = score;
    }
  }
  return best;
}

}  // namespace

std::string ChrfScore::to_string() const {
  char text[32];
  std::snprintf(text, sizeof(text), "chrF2 = %.2f", score);
  return text;
}

ChrfScore corpus_chrf(std::span<const std::string> hypotheses,
                      std::span<const References> references, bool lowercase) {
  check_segments(hypotheses, references);
  Statistics total;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    const Statistics segment = best_statistics(hypotheses[i], references[i], lowercase);
    for (std::size_t n = 0; n < kMaxOrder; ++n) {
      total[n].hypothesis += segment[n].hypothesis;
      total[n].reference += segment[n].reference;
      total[n].matches += segment[n].matches;
    }
  }
  return {f_score(total), metric_signature(references, lowercase, "eff:yes|nc:6|nw:0|space:no")};
}

}  // namespace heed
