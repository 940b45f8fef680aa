// The tokenizers of BLEU, by hand-written scans: each is one pass of a rule over bytes. Rules test
// ASCII characters only, so bytes of longer characters pass through as "not a digit, not a mark".
#include "heed/train/metric_tokenizers.h"

#include <algorithm>
#include <array>

#include "heed/data/error.h"
#include "heed/data/text.h"

namespace heed {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_period_or_comma(char c) { return c == '.' || c == ','; }

// ASCII marks that always stand alone: all but the apostrophe, the comma, the dash and the period.
bool stands_alone(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= '!' && c <= '&') ||
         (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

std::string separate_marks(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (stands_alone(c)) {
      out.append({' ', c, ' '});
    } else if (c == ' ') {
      out += "   ";  // the later rules see a period's neighbours, which must be sacreBLEU's
    } else {
      out += c;
    }
  }
  return out;
}

// Where `matches(c, next)` holds, writes `replace(c, next)` and goes on behind both.
template <typename Matches, typename Replace>
std::string replace_pairs(std::string_view text, Matches matches, Replace replace) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && matches(text[i], text[i + 1])) {
      replace(out, text[i], text[i + 1]);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Periods and commas stand alone unless both neighbours are digits; a dash does behind a digit.
std::string separate_words(std::string_view text) {
  std::string out = separate_marks(text);
  const auto split_behind = [](std::string& to, char c, char next) {
    to.append({c, ' ', next, ' '});
  };
  out = replace_pairs(
      out, [](char c, char next) { return !is_digit(c) && is_period_or_comma(next); },
      split_behind);
  out = replace_pairs(
      out, [](char c, char next) { return is_period_or_comma(c) && !is_digit(next); },
      [](std::string& to, char c, char next) {
        to.append({' ', c, ' ', next});
      });
  return replace_pairs(
      out, [](char c, char next) { return is_digit(c) && next == '-'; }, split_behind);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

std::string unescape(std::string_view text) {
  std::string out(text);
  replace_all(out, "<skipped>", "");
  replace_all(out, "-\n", "");
  replace_all(out, "\n", " ");
  replace_all(out, "&quot;", "\"");
  replace_all(out, "&amp;", "&");
  replace_all(out, "&lt;", "<");
  replace_all(out, "&gt;", ">");
  return out;
}

struct Range {
  char32_t first, last;
};

// sacreBLEU writes the ranges of CJK extension B and of the compatibility supplement with
// four-digit escapes; read as Python reads them, they are the second and third here, and the true
// supplementary characters are not split.
constexpr std::array<Range, 22> kSplitInChinese = {
    {{0x3400, 0x4DB5}, {0x2001, 0x2A6D}, {0x2F81, 0x2FA1}, {0x4E00, 0x9FA5}, {0x9FA6, 0x9FBB},
     {0xF900, 0xFA2D}, {0xFA30, 0xFA6A}, {0xFA70, 0xFAD9}, {0xFF00, 0xFFEF}, {0x2E80, 0x2EFF},
     {0x3000, 0x303F}, {0x31C0, 0x31EF}, {0x2F00, 0x2FDF}, {0x2FF0, 0x2FFF}, {0x3100, 0x312F},
     {0x31A0, 0x31BF}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F}, {0x2600, 0x26FF}, {0x2700, 0x27BF},
     {0x3200, 0x32FF}, {0x3300, 0x33FF}}};

bool splits_in_chinese(char32_t c) {
  return std::any_of(kSplitInChinese.begin(), kSplitInChinese.end(),
                     [c](Range range) { return c >= range.first && c <= range.last; });
}

std::string separate_chinese(std::string_view text) {
  std::string out;
  for (const char32_t c : code_points(text)) {
    const bool split = splits_in_chinese(c);
    if (split) out += ' ';
    append_utf8(out, c);
    if (split) out += ' ';
  }
  return out;
}

std::string prepare(std::string_view text, BleuTokenizer tokenizer) {
  switch (tokenizer) {
    case BleuTokenizer::k13a:  // the spaces give a mark at either end a neighbour
      return separate_words(unescape(strip_right(text)).insert(0, 1, ' ').append(1, ' '));
    case BleuTokenizer::kZh:
      return separate_words(separate_chinese(strip(text)));
    case BleuTokenizer::kNone:
      break;
  }
  return std::string(text);
}

}  // namespace

std::string_view name_of(BleuTokenizer tokenizer) {
  switch (tokenizer) {
    case BleuTokenizer::k13a:
      return "13a";
    case BleuTokenizer::kZh:
      return "zh";
    case BleuTokenizer::kNone:
      break;
  }
  return "none";
}

BleuTokenizer bleu_tokenizer_named(std::string_view name) {
  for (const auto tokenizer : {BleuTokenizer::k13a, BleuTokenizer::kZh, BleuTokenizer::kNone}) {
    if (name_of(tokenizer) == name) return tokenizer;
  }
  throw UserError("unknown BLEU tokenizer '" + std::string(name) + "': choose 13a, zh or none");
}

std::vector<std::string> tokenize(std::string_view text, BleuTokenizer tokenizer) {
  const std::string prepared = prepare(text, tokenizer);
  std::vector<std::string> tokens;
  for (const std::string_view word : split_whitespace(prepared)) tokens.emplace_back(word);
  return tokens;
}

}  // namespace heed
