// What BLEU and chrF share: hypotheses beside their references, and the signature that names a
// score's settings.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace heed {

using References = std::vector<std::string>;  // of one segment; at least one

// Throws UserError unless there is one non-empty list of references for each hypothesis.
void check_segments(std::span<const std::string> hypotheses,
                    std::span<const References> references);

// "nrefs:1|case:mixed|<details>|version:2.6.0", as sacreBLEU prints it; nrefs is "var" where the
// numbers differ.
std::string metric_signature(std::span<const References> references, bool lowercase,
                             const std::string& details);

}  // namespace heed
