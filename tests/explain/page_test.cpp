// The page's text; tests/python/test_page.py opens it in a browser.
#include "heed/explain/page.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "samples.h"

namespace heed {
namespace {

constexpr std::string_view kOpen = R"(<script type="application/json" id="alignments">)";

std::string data_of(const std::string& page) {
  const size_t begin = page.find(kOpen) + kOpen.size();
  return page.substr(begin, page.find("</script>", begin) - begin);
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string page_of(const Alignment& alignment) { return attention_page({&alignment, 1}); }

TEST(Page, DataIsTheAlignment) {
  const auto data = nlohmann::json::parse(data_of(page_of(samples::love())));
  ASSERT_EQ(data.size(), 1U);
  EXPECT_EQ(data[0]["sourceText"], "I love you.");
  EXPECT_EQ(data[0]["target"][1]["text"], "爱");
  EXPECT_EQ(data[0]["rows"][1], "0.043 0.873412 0.07 0.013588");
}

TEST(Page, TextCannotLeaveTheDataElement) {
  Alignment alignment = samples::love();
  const size_t elements = count(page_of(alignment), "</script>");
  alignment.source[0] = "</script><script>alert(1)</script>";
  alignment.target[0] = "<!--<script>";
  alignment.source_text = "]]>&\"'\\ \xe2\x80\xa8 \xff";
  alignment.title = "</SCRIPT >";
  const std::string page = page_of(alignment);
  EXPECT_EQ(count(page, "</script>"), elements);
  const std::string data = data_of(page);
  EXPECT_EQ(data.find_first_of("<>&"), std::string::npos);
  for (const char c : data) EXPECT_TRUE(c >= ' ' && c < 0x7f);
  const auto parsed = nlohmann::json::parse(data);
  EXPECT_EQ(parsed[0]["source"][0]["text"], alignment.source[0]);
  EXPECT_EQ(parsed[0]["sourceText"], "]]>&\"'\\ \u2028 \uFFFD");
}

TEST(Page, NothingIsFetched) {
  const std::string page = page_of(samples::love());
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  for (const char* part : {"http://", "https://", "//cdn", " src=", "@import", "url("})
    EXPECT_EQ(count(page, part), 0U) << part;
}

TEST(Page, NoSentencesIsAPageToo) { EXPECT_EQ(data_of(attention_page({})), "[]"); }

TEST(Page, WrongNumberOfWeightsIsRefused) {
  Alignment alignment = samples::love();
  alignment.weights.pop_back();
  EXPECT_THROW(page_of(alignment), std::invalid_argument);
}

}  // namespace
}  // namespace heed
