// Alignments as JSON.
#include "heed/explain/alignment.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace heed {
namespace {

using Json = nlohmann::ordered_json;

// The nearest double with six significant digits; JSON prints it with no more than those.
double six_digits(double value) {
  if (!std::isfinite(value)) return value;
  char text[32];
  std::snprintf(text, sizeof text, "%.5e", value);
  return std::strtod(text, nullptr);
}

}  // namespace

void require_consistent(const Alignment& alignment) {
  const size_t T = alignment.target.size(), S = alignment.source.size();
  if (alignment.weights.size() != T * S)
    throw std::invalid_argument("alignment: expected " + std::to_string(T) + " x " +
                                std::to_string(S) + " weights, got " +
                                std::to_string(alignment.weights.size()));
  if (!alignment.planted.empty() && alignment.planted.size() != T * S)
    throw std::invalid_argument("alignment: expected " + std::to_string(T) + " x " +
                                std::to_string(S) + " planted places, got " +
                                std::to_string(alignment.planted.size()));
}

std::string format_weight(float weight) { return Json(six_digits(weight)).dump(); }

std::string alignment_json(const Alignment& alignment) {
  require_consistent(alignment);
  Json rows = Json::array();
  for (size_t t = 0; t < alignment.target.size(); ++t) {
    Json row = Json::array();
    for (size_t s = 0; s < alignment.source.size(); ++s)
      row.push_back(six_digits(alignment.weight(t, s)));
    rows.push_back(std::move(row));
  }
  const Json object = {
      {"source", alignment.source_text},      {"translation", alignment.target_text},
      {"source_tokens", alignment.source},    {"target_tokens", alignment.target},
      {"score", six_digits(alignment.score)}, {"attention", std::move(rows)}};
  return object.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace heed
