// Alignments as JSON.
#include "heed/explain/alignment.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "samples.h"

namespace heed {
namespace {

TEST(Alignment, JsonIsOneLineInTheAgreedOrder) {
  Alignment alignment{.source = {"▁a"}, .target = {"▁b", "c"}, .weights = {1, 1}};
  alignment.source_text = "a";
  alignment.target_text = "b\nc";
  alignment.score = -0.25;
  EXPECT_EQ(
      alignment_json(alignment),
      R"({"source":"a","translation":"b\nc","source_tokens":["▁a"],"target_tokens":["▁b","c"],)"
      R"("score":-0.25,"attention":[[1.0],[1.0]]})");
}

TEST(Alignment, JsonNumbersAreTheFormattedWeights) {
  const Alignment alignment{
      .source = {"a", "b", "c"}, .target = {"d"}, .weights = {0.123456789F, 2.0F / 3, 1.2e-7F}};
  const std::string json = alignment_json(alignment);
  for (const float weight : alignment.weights)
    EXPECT_NE(json.find(format_weight(weight)), std::string::npos) << json;
}

TEST(Alignment, WeightsHaveSixSignificantDigits) {
  EXPECT_EQ(format_weight(0.123456789F), "0.123457");
  EXPECT_EQ(format_weight(0.000123456789F), "0.000123457");
  EXPECT_EQ(format_weight(1.23456789e-7F), "1.23457e-07");
  EXPECT_EQ(format_weight(0.1F), "0.1");
  EXPECT_EQ(format_weight(1), "1.0");
  EXPECT_EQ(format_weight(0), "0.0");
}

TEST(Alignment, PrintedRowsSumToOne) {
  const auto json = nlohmann::json::parse(alignment_json(samples::diagonal(30, 300, 40)));
  for (const auto& row : json["attention"]) {
    double sum = 0;
    for (const double weight : row) sum += weight;
    EXPECT_NEAR(sum, 1, 1e-4);
  }
}

TEST(Alignment, NonFiniteNumbersBecomeNull) {
  Alignment alignment{.source = {"a"},
                      .target = {"b"},
                      .weights = {std::numeric_limits<float>::quiet_NaN()},
                      .score = -std::numeric_limits<double>::infinity()};
  const auto json = nlohmann::json::parse(alignment_json(alignment));
  EXPECT_TRUE(json["score"].is_null());
  EXPECT_TRUE(json["attention"][0][0].is_null());
}

TEST(Alignment, InvalidUtf8BecomesTheReplacementCharacter) {
  const Alignment alignment{.source = {"\xff"}, .target = {"b"}, .weights = {1}};
  const auto json = nlohmann::json::parse(alignment_json(alignment));
  EXPECT_EQ(json["source_tokens"][0], "\uFFFD");
}

TEST(Alignment, WrongNumberOfWeightsIsRefused) {
  const Alignment alignment{.source = {"a", "b"}, .target = {"c"}, .weights = {1}};
  EXPECT_THROW(alignment_json(alignment), std::invalid_argument);
}

}  // namespace
}  // namespace heed
