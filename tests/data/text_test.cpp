// Unicode text: validity, words, graphemes, terminal cells, case, normal forms, simplified Chinese.
#include "heed/data/text.h"

#include <gtest/gtest.h>

#include <thread>

namespace heed {
namespace {

using Words = std::vector<std::string_view>;

TEST(Utf8, AcceptsEveryLengthOfCharacter) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("a é 中 😀"));
  EXPECT_TRUE(is_valid_utf8("\uFFFD"));  // the replacement character itself is no error
  EXPECT_TRUE(is_valid_utf8(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_valid_utf8("\xF4\x8F\xBF\xBF"));
}

TEST(Utf8, GivesThePlaceOfTheFirstBadByte) {
  EXPECT_EQ(valid_utf8_prefix("plain 中文"), 12u);
  EXPECT_EQ(valid_utf8_prefix("\xFF"), 0u);
  EXPECT_EQ(valid_utf8_prefix("ab"
                              "\x80"),
            2u);                                          // continuation without a start
  EXPECT_EQ(valid_utf8_prefix("中\xE4\xB8"), 3u);         // cut short
  EXPECT_EQ(valid_utf8_prefix("a\xE4\xB8 b"), 1u);        // cut short in the middle
  EXPECT_EQ(valid_utf8_prefix("\xC0\xAF"), 0u);           // over-long
  EXPECT_EQ(valid_utf8_prefix("a\xED\xA0\x80"), 1u);      // a surrogate
  EXPECT_EQ(valid_utf8_prefix("a\xF4\x90\x80\x80"), 1u);  // beyond U+10FFFF
  EXPECT_EQ(valid_utf8_prefix("\uFFFD\xFF"), 3u);
}

TEST(CodePoints, RoundTripAndReplaceBadBytes) {
  EXPECT_EQ(code_points("aé中😀"), (std::vector<char32_t>{U'a', U'é', U'中', U'😀'}));
  EXPECT_EQ(code_points("a\xFF"), (std::vector<char32_t>{U'a', 0xFFFD}));
  std::string text;
  for (const char32_t c : code_points("aé中😀")) append_utf8(text, c);
  EXPECT_EQ(text, "aé中😀");
  text.clear();
  append_utf8(text, 0xD800);
  EXPECT_EQ(text, "\uFFFD");
}

TEST(Whitespace, SplitsAtEveryUnicodeSpace) {
  EXPECT_EQ(split_whitespace("  one\ttwo\u3000三\u00A0four\n"),
            (Words{"one", "two", "三", "four"}));
  EXPECT_EQ(split_whitespace("zero\u200Bwidth"), (Words{"zero\u200Bwidth"}));
  EXPECT_TRUE(split_whitespace(" \u2003 ").empty());
  EXPECT_TRUE(split_whitespace("").empty());
  EXPECT_EQ(strip("\u3000 中 文\u2003"), "中 文");
  EXPECT_EQ(strip_right(" a \n"), " a");
  EXPECT_EQ(strip(" \t "), "");
}

TEST(Graphemes, KeepWhatAReaderSeesAsOneCharacter) {
  EXPECT_EQ(graphemes("e\u0301a"), (Words{"e\u0301", "a"}));
  EXPECT_EQ(graphemes("中文"), (Words{"中", "文"}));
  EXPECT_EQ(graphemes("👩‍👩‍👧🇨🇳👍🏽"),
            (Words{"👩‍👩‍👧", "🇨🇳", "👍🏽"}));
  EXPECT_TRUE(graphemes("").empty());
}

TEST(DisplayWidth, CountsTerminalCells) {
  EXPECT_EQ(display_width(""), 0);
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("naïve"), 5);
  EXPECT_EQ(display_width("我爱你。"), 8);
  EXPECT_EQ(display_width("ＡＢ"), 4);     // full width
  EXPECT_EQ(display_width("ｱ"), 1);        // half width
  EXPECT_EQ(display_width("e\u0301"), 1);  // combining acute
  EXPECT_EQ(display_width("\u0301"), 0);
  EXPECT_EQ(display_width("a\u200Bb\uFEFF"), 2);  // zero-width space, byte order mark
  EXPECT_EQ(display_width("\x1b\t\n"), 0);        // control characters
  EXPECT_EQ(display_width("é\t"), 1);
  EXPECT_EQ(display_width("한국"), 4);
  EXPECT_EQ(display_width("\u1112\u1161\u11AB"), 2);  // the syllable from its parts
  EXPECT_EQ(display_width("▁word"), 5);               // SentencePiece's space mark
  EXPECT_EQ(display_width("กำ"), 2);                  // a Thai vowel with a cell of its own
}

TEST(DisplayWidth, AnEmojiTakesTwoCellsWhateverIsJoinedToIt) {
  EXPECT_EQ(display_width("😀"), 2);
  EXPECT_EQ(display_width("👍🏽"), 2);
  EXPECT_EQ(display_width("👩‍👩‍👧"), 2);
  EXPECT_EQ(display_width("🇨🇳"), 2);
  EXPECT_EQ(display_width("\u2764"), 1);        // a heart as text
  EXPECT_EQ(display_width("\u2764\uFE0F"), 2);  // the same as an emoji
  EXPECT_EQ(display_width("1\uFE0F\u20E3"), 2);
}

TEST(PadToWidth, AlignsMixedScripts) {
  EXPECT_EQ(pad_to_width("ab", 5), "ab   ");
  EXPECT_EQ(pad_to_width("中文", 5), "中文 ");
  EXPECT_EQ(pad_to_width("中文", 5, Align::kRight), " 中文");
  EXPECT_EQ(pad_to_width("中文", 3), "中文");  // never cuts
  EXPECT_EQ(pad_to_width("a", -1), "a");
}

TEST(TruncateToWidth, CutsBetweenGraphemesAndNeverExceedsTheWidth) {
  EXPECT_EQ(truncate_to_width("attention", 9), "attention");
  EXPECT_EQ(truncate_to_width("attention", 5), "atte…");
  EXPECT_EQ(truncate_to_width("中文字", 5), "中文…");
  EXPECT_EQ(truncate_to_width("中文字", 4), "中…");  // half a character does not fit
  EXPECT_EQ(truncate_to_width("👩‍👩‍👧👩‍👩‍👧", 3), "👩‍👩‍👧…");
  EXPECT_EQ(truncate_to_width("abc", 1), "…");
  EXPECT_EQ(truncate_to_width("abc", 0), "");
  EXPECT_EQ(truncate_to_width("abcdef", 4, "..."), "a...");
  EXPECT_EQ(truncate_to_width("abcdef", 2, "..."), "ab");
}

TEST(ToLower, FollowsUnicode) {
  EXPECT_EQ(to_lower("ÀÉ Straße ΑΣ 中"), "àé straße ας 中");
  EXPECT_EQ(to_lower("İ"), "i\u0307");
}

TEST(Nfkc, FoldsWidthsAndComposes) {
  EXPECT_EQ(nfkc("ＡＢＣ１２３ ﬁ e\u0301"), "ABC123 fi é");
  EXPECT_EQ(nfkc("，。"), ",。");
}

TEST(ToSimplified, ConvertsTraditionalCharacters) {
  EXPECT_EQ(to_simplified("我愛你。這裡沒有車站，漢語很難學。"),
            "我爱你。这里没有车站，汉语很难学。");
  EXPECT_EQ(to_simplified("我爱你 abc"), "我爱你 abc");
}

TEST(ToSimplified, WorksInSeveralThreads) {
  std::string first, second;
  std::thread a([&] { first = to_simplified("漢語"); });
  std::thread b([&] { second = to_simplified("車站"); });
  a.join();
  b.join();
  EXPECT_EQ(first, "汉语");
  EXPECT_EQ(second, "车站");
}

}  // namespace
}  // namespace heed
