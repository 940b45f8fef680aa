// Token labels.
#include "heed/explain/token_label.h"

#include <gtest/gtest.h>

namespace heed {
namespace {

std::vector<std::string> alone(const std::vector<std::string>& tokens) {
  std::vector<std::string> labels;
  for (const TokenLabel& label : token_labels(tokens)) labels.push_back(label.alone());
  return labels;
}

using Labels = std::vector<std::string>;

TEST(TokenLabel, MarkerBecomesTheStartOfAWord) {
  const auto labels = token_labels({"▁love", "ly"});
  EXPECT_EQ(labels[0].text, "love");
  EXPECT_TRUE(labels[0].starts_word);
  EXPECT_EQ(labels[1].text, "ly");
  EXPECT_FALSE(labels[1].starts_word);
}

TEST(TokenLabel, RestOfAWordHasAHyphen) {
  EXPECT_EQ(alone({"▁un", "believ", "able", "."}), (Labels{"un", "-believ", "-able", "."}));
  EXPECT_EQ(alone({"▁при", "вет"}), (Labels{"при", "-вет"}));
}

TEST(TokenLabel, ScriptsWithoutSpacesHaveNoHyphens) {
  EXPECT_EQ(alone({"▁我", "爱", "你"}), (Labels{"我", "爱", "你"}));
  EXPECT_EQ(alone({"▁ひ", "らカ", "タ"}), (Labels{"ひ", "らカ", "タ"}));
  EXPECT_EQ(alone({"▁don", "'", "t"}), (Labels{"don", "'", "t"}));
}

TEST(TokenLabel, LoneMarkerIsVisible) { EXPECT_EQ(alone({"▁", ""}), (Labels{"␣", "␣"})); }

TEST(TokenLabel, InnerMarkerIsASpace) { EXPECT_EQ(alone({"▁a▁b"}), (Labels{"a b"})); }

TEST(TokenLabel, NothingThatATerminalObeysRemains) {
  EXPECT_EQ(alone({"\x1b[2J"}), (Labels{"\uFFFD[2J"}));
  EXPECT_EQ(alone({"a\u009bb", "\u202e", "\n\t\x7f"}),
            (Labels{"a\uFFFDb", "\uFFFD", "\uFFFD\uFFFD\uFFFD"}));
  EXPECT_EQ(alone({"\xe4\xb8"}), (Labels{"\uFFFD"}));
}

TEST(TokenLabel, JoinedEmojiStayWhole) {
  EXPECT_EQ(alone({"👩‍👧"}), (Labels{"👩‍👧"}));
}

}  // namespace
}  // namespace heed
