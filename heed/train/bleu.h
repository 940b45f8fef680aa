// Corpus BLEU (Papineni et al., 2002), equal to sacreBLEU's: 4-grams, exponential smoothing,
// brevity penalty against the reference of the closest length.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "heed/train/metric_segments.h"
#include "heed/train/metric_tokenizers.h"

namespace heed {

struct BleuOptions {
  BleuTokenizer tokenizer = BleuTokenizer::k13a;
  bool lowercase = false;
};

struct BleuScore {
  static constexpr int kMaxOrder = 4;

  double score = 0.0;  // 0 to 100
  std::array<double, kMaxOrder> precisions{};
  std::array<int64_t, kMaxOrder> matches{}, totals{};
  double brevity_penalty = 1.0;
  int64_t hypothesis_length = 0, reference_length = 0;  // tokens
  std::string signature;

  double length_ratio() const;
  std::string to_string() const;  // "BLEU = 28.10 61.2/34.0/21.0/13.5 (BP = ...)"
};

BleuScore corpus_bleu(std::span<const std::string> hypotheses,
                      std::span<const References> references, const BleuOptions& options = {});

}  // namespace heed
