// chrF2 (Popovic, 2015), equal to sacreBLEU's: F-score of character n-grams up to 6, recall
// weighing twice as much as precision, white space left out, the best of several references.
#pragma once

#include <span>
#include <string>

#include "heed/train/metric_segments.h"

namespace heed {

struct ChrfScore {
  double score = 0.0;  // 0 to 100
  std::string signature;

  std::string to_string() const;  // "chrF2 = 51.23"
};

ChrfScore corpus_chrf(std::span<const std::string> hypotheses,
                      std::span<const References> references, bool lowercase = false);

}  // namespace heed
