// Heat maps as pictures.
#include "heed/explain/heat_map_svg.h"

#include <gtest/gtest.h>

#include <regex>
#include <stdexcept>

#include "samples.h"

namespace heed {
namespace {

Alignment planted() {
  return {.source = {"▁a", "▁b"},
          .target = {"▁x"},
          .weights = {0, 1},
          .title = "A title",
          .planted = {false, true}};
}

size_t count(const std::string& text, const std::string& pattern) {
  const std::regex expression(pattern);
  return static_cast<size_t>(std::distance(
      std::sregex_iterator(text.begin(), text.end(), expression), std::sregex_iterator()));
}

TEST(HeatMapSvg, HasEachLabelAndEachCellOnce) {
  Alignment alignment = samples::diagonal(5, 7, 1);
  alignment.weights.assign(35, 0.5F);
  const std::string svg = heat_map_svg(alignment);
  for (size_t s = 0; s < 7; ++s) {
    EXPECT_EQ(count(svg, ">source" + std::to_string(s) + "</text>"), 1U);
  }
  EXPECT_EQ(count(svg, ">(词|语)</text>"), 5U);
  EXPECT_EQ(count(svg, "M[0-9]+ [0-9]+h24v24h-24z"), 35U);
}

TEST(HeatMapSvg, DarkIsMuchAndWhiteIsNone) {
  const std::string svg = heat_map_svg(planted());
  std::smatch dark, first_line;
  EXPECT_EQ(count(svg, "<path fill=\"#"), 1U);  // the ground is white
  ASSERT_TRUE(std::regex_search(svg, dark, std::regex("<path fill=\"#0b316f\" d=\"M([0-9]+)")));
  ASSERT_TRUE(
      std::regex_search(svg, first_line, std::regex("<path stroke=\"#e4e4e4\" d=\"M([0-9]+)")));
  EXPECT_EQ(std::stoi(dark[1]), std::stoi(first_line[1]) + 24);  // the second column
}

TEST(HeatMapSvg, OutlinesPlantedPlacesAndCountsTheHits) {
  Alignment alignment = planted();
  EXPECT_EQ(count(heat_map_svg(alignment), "stroke=\"#d55e00\""), 2U);  // and in the legend
  EXPECT_NE(heat_map_svg(alignment).find("in 1 of 1 rows"), std::string::npos);
  alignment.weights = {1, 0};
  EXPECT_NE(heat_map_svg(alignment).find("in 0 of 1 rows"), std::string::npos);
  alignment.planted = {};
  EXPECT_EQ(count(heat_map_svg(alignment), "#d55e00"), 0U);
  EXPECT_EQ(heat_map_svg(alignment).find("where the answer stands"), std::string::npos);
}

TEST(HeatMapSvg, SaysWhatItIsWithoutBeingSeen) {
  const std::string svg = heat_map_svg(planted());
  EXPECT_NE(svg.find("<title id=\"title\">A title</title>"), std::string::npos);
  EXPECT_NE(svg.find("role=\"img\" aria-labelledby=\"title description\""), std::string::npos);
  EXPECT_NE(svg.find("Attention weights of 1 queries (rows) over 2 keys (columns)."),
            std::string::npos);
}

TEST(HeatMapSvg, BringsItsOwnGround) {
  EXPECT_EQ(
      count(heat_map_svg(planted()), "<rect width=\"[0-9]+\" height=\"[0-9]+\" fill=\"#ffffff\"/>"),
      1U);
}

TEST(HeatMapSvg, LabelsAreTextAndNothingElse) {
  Alignment alignment = planted();
  alignment.source[0] = "▁<b>&\"";
  alignment.title = "a < b\x1b\n";
  const std::string svg = heat_map_svg(alignment);
  EXPECT_NE(svg.find(">&lt;b&gt;&amp;&quot;</text>"), std::string::npos);
  EXPECT_NE(svg.find(">a &lt; b"), std::string::npos);
  EXPECT_EQ(svg.find('\x1b'), std::string::npos);
}

TEST(HeatMapSvg, LongLabelsAreTurnedAndVeryLongOnesCut) {
  Alignment alignment = planted();
  EXPECT_EQ(heat_map_svg(alignment).find("rotate"), std::string::npos);
  alignment.source[1] = "▁" + std::string(500, 'y');
  const std::string svg = heat_map_svg(alignment);
  EXPECT_EQ(count(svg, "rotate\\(-90\\)"), 2U);
  EXPECT_EQ(svg.find(std::string(17, 'y')), std::string::npos);
}

TEST(HeatMapSvg, IsSmall) {
  Alignment alignment = samples::diagonal(24, 24, 3);
  alignment.planted.assign(24 * 24, false);
  for (size_t t = 0; t < 24; ++t) alignment.planted[t * 25] = true;
  EXPECT_LT(heat_map_svg(alignment).size(), 20'000U);
}

TEST(HeatMapSvg, StrangeWeightsAndEmptySidesDraw) {
  Alignment alignment = planted();
  alignment.weights = {NAN, INFINITY};
  EXPECT_EQ(count(heat_map_svg(alignment), "nan|inf"), 0U);
  EXPECT_NE(heat_map_svg({}).find("</svg>"), std::string::npos);
  alignment.planted = {true};
  EXPECT_THROW(heat_map_svg(alignment), std::invalid_argument);
}

}  // namespace
}  // namespace heed
