// Terminal detection.
#include "heed/explain/terminal.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace heed {
namespace {

ColorDepth detect(bool is_terminal, const std::map<std::string, std::string>& variables) {
  return detect_colors(is_terminal, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(Terminal, ColortermMeansTrueColor) {
  EXPECT_EQ(detect(true, {{"TERM", "xterm"}, {"COLORTERM", "truecolor"}}), ColorDepth::kTrueColor);
  EXPECT_EQ(detect(true, {{"TERM", "screen"}, {"COLORTERM", "24bit"}}), ColorDepth::kTrueColor);
  EXPECT_EQ(detect(true, {{"TERM", "xterm-direct"}}), ColorDepth::kTrueColor);
}

TEST(Terminal, TermMeans256Colors) {
  EXPECT_EQ(detect(true, {{"TERM", "screen-256color"}}), ColorDepth::k256);
}

TEST(Terminal, OtherTerminalsGetDigits) {
  EXPECT_EQ(detect(true, {{"TERM", "vt100"}}), ColorDepth::kNone);
  EXPECT_EQ(detect(true, {}), ColorDepth::kNone);
}

TEST(Terminal, PipesGetDigits) {
  EXPECT_EQ(detect(false, {{"TERM", "xterm-256color"}, {"COLORTERM", "truecolor"}}),
            ColorDepth::kNone);
}

TEST(Terminal, NoColorIsHonouredUnlessEmpty) {
  EXPECT_EQ(detect(true, {{"COLORTERM", "truecolor"}, {"NO_COLOR", "1"}}), ColorDepth::kNone);
  EXPECT_EQ(detect(true, {{"COLORTERM", "truecolor"}, {"NO_COLOR", ""}}), ColorDepth::kTrueColor);
}

TEST(Terminal, DumbGetsDigits) {
  EXPECT_EQ(detect(true, {{"TERM", "dumb"}, {"COLORTERM", "truecolor"}}), ColorDepth::kNone);
}

}  // namespace
}  // namespace heed
