// Checks and signatures common to BLEU and chrF.
#include "heed/train/metric_segments.h"

#include <algorithm>

#include "heed/data/error.h"

namespace heed {
namespace {

// The release whose scores and signatures ours equal.
constexpr const char* kSacreBleuVersion = "2.6.0";

}  // namespace

void check_segments(std::span<const std::string> hypotheses,
                    std::span<const References> references) {
  if (hypotheses.size() != references.size()) {
    throw UserError(std::to_string(hypotheses.size()) + " hypotheses but " +
                    std::to_string(references.size()) + " lines of references");
  }
  if (hypotheses.empty()) throw UserError("nothing to score: no hypotheses");
  const auto bare = std::find_if(references.begin(), references.end(),
                                 [](const References& list) { return list.empty(); });
  if (bare != references.end()) {
    throw UserError("segment " + std::to_string(bare - references.begin() + 1) +
                    " has no reference");
  }
}

std::string metric_signature(std::span<const References> references, bool lowercase,
                             const std::string& details) {
  const std::size_t count = references[0].size();
  const bool equal = std::all_of(references.begin(), references.end(),
                                 [count](const References& list) { return list.size() == count; });
  return "nrefs:" + (equal ? std::to_string(count) : "var") +
         "|case:" + (lowercase ? "lc" : "mixed") + "|" + details + "|version:" + kSacreBleuVersion;
}

}  // namespace heed
