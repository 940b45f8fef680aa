// Made-up alignments that the tests share.
#pragma once

#include <cmath>

#include "heed/explain/alignment.h"

namespace heed::samples {

inline Alignment love() {
  return {.source = {"▁I", "▁love", "▁you", "."},
          .target = {"▁我", "爱", "你", "。"},
          .weights = {0.912F, 0.05F, 0.0312F, 0.0068F,      //
                      0.043F, 0.873412F, 0.07F, 0.013588F,  //
                      0.0204F, 0.1012F, 0.86F, 0.0184F,     //
                      0.00F, 0.00F, 0.0F, 1.0F},
          .source_text = "I love you.",
          .target_text = "我爱你。",
          .score = -0.31};
}

// T x S tokens whose attention runs along the diagonal, `spread` source tokens wide.
inline Alignment diagonal(size_t T, size_t S, double spread) {
  Alignment alignment{.score = -1.25};
  for (size_t s = 0; s < S; ++s) {
    alignment.source.push_back("▁source" + std::to_string(s));
    alignment.source_text += "source" + std::to_string(s) + " ";
  }
  for (size_t t = 0; t < T; ++t) {
    alignment.target.push_back(t % 2 == 0 ? "词" : "语");
    alignment.target_text += alignment.target.back();
    const double centre = static_cast<double>(t * S) / static_cast<double>(T);
    std::vector<double> row(S);
    double sum = 0;
    for (size_t s = 0; s < S; ++s) {
      const double distance = (static_cast<double>(s) - centre) / spread;
      sum += row[s] = std::exp(-distance * distance / 2) + 1e-5 * static_cast<double>(s % 7);
    }
    for (const double weight : row) alignment.weights.push_back(static_cast<float>(weight / sum));
  }
  return alignment;
}

}  // namespace heed::samples
