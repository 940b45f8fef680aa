// Heat maps in their three styles.
#include "heed/explain/heat_map.h"

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>

#include "heed/data/text.h"
#include "samples.h"

namespace heed {
namespace {

Alignment tiny() {
  return {.source = {"▁I", "▁see"}, .target = {"▁我", "看见"}, .weights = {0.95F, 0.05F, 0, 1}};
}

std::vector<std::string> lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> all;
  for (std::string line; std::getline(stream, line);) all.push_back(line);
  return all;
}

std::string plain(const std::string& text) {
  return std::regex_replace(text, std::regex("\x1b\\[[0-9;]*m"), "");
}

// The widths of the lines above the first empty one: a header and its rows.
std::set<int> matrix_widths(const std::string& text) {
  std::set<int> widths;
  for (const std::string& line : lines(plain(text))) {
    if (line.empty()) break;
    widths.insert(display_width(line));
  }
  return widths;
}

TEST(HeatMap, DigitsWithoutColor) {
  EXPECT_EQ(heat_map(tiny(), {.colors = ColorDepth::kNone}),
            "     I see \n"
            "  我 9  0  \n"
            "看见 0  9  \n"
            "\n"
            "0-9: weight in tenths, 9 from .9 on; each row sums to 1\n");
}

TEST(HeatMap, PlantedPlacesAreInBrackets) {
  Alignment alignment = tiny();
  alignment.planted = {true, false, true, false};
  EXPECT_EQ(heat_map(alignment, {.colors = ColorDepth::kNone}),
            "      I see \n"
            "  我 [9] 0  \n"
            "看见 [0] 9  \n"
            "\n"
            "0-9: weight in tenths; each row sums to 1; []: where the answer stands\n");
  const std::string blocks = plain(heat_map(alignment, {.colors = ColorDepth::k256}));
  EXPECT_EQ(lines(blocks)[1], "  我 [.95] .05 ");
  EXPECT_EQ(lines(blocks)[2], "看见  []   1.0 ");
  EXPECT_EQ(lines(blocks)[4],
            "  0   .1   .25  .5   .75   1    weight; []: where the answer stands");
}

TEST(HeatMap, ManyPlantedColumnsKeepToTheWidth) {
  Alignment alignment = samples::diagonal(3, 40, 2);
  alignment.planted.assign(120, true);
  for (const ColorDepth colors : {ColorDepth::kNone, ColorDepth::k256, ColorDepth::kTrueColor}) {
    const std::string text = heat_map(alignment, {.colors = colors});
    EXPECT_EQ(matrix_widths(text).size(), 1U);
    for (const std::string& line : lines(plain(text))) EXPECT_LE(display_width(line), 80) << line;
  }
}

TEST(HeatMap, WideHeadersStandOverTheirColumns) {
  const Alignment alignment{.source = {"▁我", "看见"}, .target = {"▁I"}, .weights = {0.25F, 0.75F}};
  EXPECT_EQ(lines(heat_map(alignment, {}))[0], "  我 看见 ");
  EXPECT_EQ(lines(heat_map(alignment, {}))[1], "I  2   7  ");
  EXPECT_EQ(lines(heat_map(alignment, {.colors = ColorDepth::k256}))[0], "   我   看见 ");
}

TEST(HeatMap, SaysThatRowsSumToOneOnlyWhereTheyDo) {
  Alignment gates = tiny();
  gates.weights[0] = 0.5F;
  EXPECT_EQ(lines(heat_map(gates, {.colors = ColorDepth::kNone})).back(),
            "0-9: weight in tenths, 9 from .9 on");
}

TEST(HeatMap, BlocksIn256Colors) {
  const auto all = lines(heat_map(tiny(), {.colors = ColorDepth::k256}));
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[0], "       I   see ");
  EXPECT_EQ(all[1], "  我 \x1b[48;5;221;38;5;233m .95 \x1b[48;5;29;38;5;254m .05 \x1b[0m");
  EXPECT_EQ(all[2], "看见 \x1b[48;5;235;38;5;254m     \x1b[48;5;221;38;5;233m 1.0 \x1b[0m");
  EXPECT_EQ(plain(all[4]), "  0   .1   .25  .5   .75   1    weight; each row sums to 1");
}

TEST(HeatMap, BlocksInTrueColor) {
  const auto all = lines(heat_map(tiny(), {.colors = ColorDepth::kTrueColor}));
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[2],
            "看见 \x1b[48;2;23;37;52;38;2;220;230;234m     "
            "\x1b[48;2;255;205;52;38;2;8;20;28m 1.0 \x1b[0m");
}

TEST(HeatMap, NoEscapesWithoutColor) {
  Alignment alignment = samples::love();
  alignment.source[0] = "\x1b[31m";
  alignment.title = "\x1b]0;title\x07";
  EXPECT_EQ(heat_map(alignment, {.colors = ColorDepth::kNone}).find('\x1b'), std::string::npos);
}

TEST(HeatMap, EveryLineOfAMatrixIsEquallyWide) {
  Alignment alignment = samples::love();
  std::swap(alignment.source, alignment.target);
  alignment.target[1] = "▁ｌｏｖｅ";
  alignment.source[2] = "▁été";
  for (const ColorDepth colors : {ColorDepth::kNone, ColorDepth::k256, ColorDepth::kTrueColor})
    EXPECT_EQ(matrix_widths(heat_map(alignment, {.colors = colors})).size(), 1U);
}

TEST(HeatMap, LongSentencesContinueInPanelsWithinTheWidth) {
  const Alignment alignment = samples::diagonal(3, 40, 2);
  for (const ColorDepth colors : {ColorDepth::kNone, ColorDepth::k256, ColorDepth::kTrueColor})
    for (const int width : {30, 80, 137}) {
      const std::string text = plain(heat_map(alignment, {.colors = colors, .width = width}));
      for (const std::string& line : lines(text)) EXPECT_LE(display_width(line), width) << line;
      for (size_t s = 0; s < alignment.source.size(); ++s)
        EXPECT_NE(text.find(" source" + std::to_string(s) + " "), std::string::npos) << s;
    }
}

TEST(HeatMap, PanelsAreAboutEquallyWide) {
  // 21 columns of "sourceN " do not fit beside each other; the last panel must not hold one alone.
  const auto all =
      lines(heat_map(samples::diagonal(1, 21, 2), {.colors = ColorDepth::kNone, .width = 90}));
  std::vector<int> widths;
  for (const std::string& line : all)
    if (line.find("source") != std::string::npos) widths.push_back(display_width(line));
  ASSERT_GT(widths.size(), 1U);
  EXPECT_LT(widths.front() - widths.back(), 20);
}

TEST(HeatMap, VeryLongTokensAreCut) {
  Alignment alignment = tiny();
  alignment.source[1] = "▁" + std::string(500, 'x');
  alignment.target[1] = std::string(500, 'y');
  const auto all = lines(heat_map(alignment, {.width = 40}));
  for (size_t i = 0; i + 1 < all.size(); ++i) EXPECT_LE(display_width(all[i]), 40) << all[i];
}

TEST(HeatMap, AnEmptySideGivesNothing) {
  EXPECT_EQ(heat_map({.target = {"a"}}, {}), "");
  EXPECT_EQ(heat_map({}, {}), "");
}

}  // namespace
}  // namespace heed
