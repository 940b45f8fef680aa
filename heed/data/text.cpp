// Unicode text over ICU.
#include "heed/data/text.h"

#include <unicode/brkiter.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/translit.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace heed {
namespace {

constexpr char32_t kEmojiPresentation = 0xFE0F;

void check(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) {
    throw std::runtime_error(std::string("ICU: ") + what + ": " + u_errorName(status));
  }
}

// Reads the code point at `at`, U+FFFD for a bad byte, and moves `at` past it.
char32_t next_code_point(std::string_view text, std::size_t& at) {
  // ICU's macros count in 32 bits and a character has at most 4 bytes, so they see a window.
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data()) + at;
  const auto length = static_cast<int32_t>(std::min<std::size_t>(text.size() - at, 4));
  int32_t used = 0;
  UChar32 c;
  U8_NEXT(bytes, used, length, c);
  if (c < 0) {
    ++at;
    return 0xFFFD;
  }
  at += static_cast<std::size_t>(used);
  return static_cast<char32_t>(c);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

icu::UnicodeString to_icu(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string from_icu(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

// Making an iterator or a transliterator loads rules and takes milliseconds, and using one changes
// it: one per thread.
icu::BreakIterator& character_iterator() {
  thread_local const auto iterator = [] {
    UErrorCode status = U_ZERO_ERROR;
    std::unique_ptr<icu::BreakIterator> made(
        icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
    check(status, "grapheme iterator");
    return made;
  }();
  return *iterator;
}

const icu::Transliterator& simplifier() {
  thread_local const auto transliterator = [] {
    UErrorCode status = U_ZERO_ERROR;
    std::unique_ptr<icu::Transliterator> made(
        icu::Transliterator::createInstance("Traditional-Simplified", UTRANS_FORWARD, status));
    check(status, "Traditional-Simplified");
    return made;
  }();
  return *transliterator;
}

int code_point_width(char32_t code_point) {
  const auto c = static_cast<UChar32>(code_point);
  switch (u_charType(c)) {
    case U_NON_SPACING_MARK:
    case U_ENCLOSING_MARK:
    case U_CONTROL_CHAR:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
      return 0;
    case U_FORMAT_CHAR:
      return c == 0x00AD ? 1 : 0;  // terminals draw the soft hyphen
    default:
      break;
  }
  const int syllable_part = u_getIntPropertyValue(c, UCHAR_HANGUL_SYLLABLE_TYPE);
  if (syllable_part == U_HST_VOWEL_JAMO || syllable_part == U_HST_TRAILING_JAMO) return 0;
  const int width = u_getIntPropertyValue(c, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

bool is_regional_indicator(char32_t c) { return c >= 0x1F1E6 && c <= 0x1F1FF; }

bool is_pictograph(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_EXTENDED_PICTOGRAPHIC);
}

// An emoji is as wide as its first character, whatever is joined to it; other clusters are the sum
// of their parts.
int grapheme_width(std::string_view grapheme) {
  const std::vector<char32_t> parts = code_points(grapheme);
  const bool flag = parts.size() == 2 && is_regional_indicator(parts[0]);
  const bool drawn_as_emoji =
      parts.size() > 1 && std::find(parts.begin(), parts.end(), kEmojiPresentation) != parts.end();
  if (flag || drawn_as_emoji) return 2;
  if (is_pictograph(parts[0])) return code_point_width(parts[0]);
  int width = 0;
  for (const char32_t part : parts) width += code_point_width(part);
  return width;
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    // A genuine U+FFFD takes 3 bytes, a bad byte is stepped over alone.
    if (next_code_point(text, at) == 0xFFFD && at == start + 1) return start;
  }
  return text.size();
}

bool is_valid_utf8(std::string_view text) { return valid_utf8_prefix(text) == text.size(); }

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) out.push_back(next_code_point(text, at));
  return out;
}

void append_utf8(std::string& text, char32_t code_point) {
  char bytes[U8_MAX_LENGTH];
  int32_t size = 0;
  UBool bad = false;
  U8_APPEND(bytes, size, U8_MAX_LENGTH, static_cast<UChar32>(code_point), bad);
  if (bad) {
    text += "\uFFFD";
  } else {
    text.append(bytes, static_cast<std::size_t>(size));
  }
}

bool is_space(char32_t code_point) {
  return u_isUWhiteSpace(static_cast<UChar32>(code_point)) ||
         (code_point >= 0x1C && code_point <= 0x1F);
}

std::vector<std::string_view> split_whitespace(std::string_view text) {
  std::vector<std::string_view> words;
  std::size_t word = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    if (!is_space(next_code_point(text, at))) continue;
    if (start > word) words.push_back(text.substr(word, start - word));
    word = at;
  }
  if (word < text.size()) words.push_back(text.substr(word));
  return words;
}

std::string_view strip_right(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!is_space(next_code_point(text, at))) end = at;
  }
  return text.substr(0, end);
}

std::string_view strip(std::string_view text) {
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size(); start = at) {
    if (!is_space(next_code_point(text, at))) break;
  }
  return strip_right(text.substr(start));
}

std::vector<std::string_view> graphemes(std::string_view text) {
  std::vector<std::string_view> out;
  if (text.empty()) return out;
  UErrorCode status = U_ZERO_ERROR;
  UText utext = UTEXT_INITIALIZER;
  utext_openUTF8(&utext, text.data(), static_cast<int64_t>(text.size()), &status);
  icu::BreakIterator& iterator = character_iterator();
  iterator.setText(&utext, status);
  utext_close(&utext);  // the iterator holds its own clone
  check(status, "grapheme iterator");
  int32_t start = iterator.first();
  for (int32_t end = iterator.next(); end != icu::BreakIterator::DONE; end = iterator.next()) {
    out.push_back(
        text.substr(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start)));
    start = end;
  }
  return out;
}

int display_width(std::string_view text) {
  int width = 0;
  if (is_ascii(text)) {
    for (const char c : text) width += c >= 0x20 && c != 0x7F ? 1 : 0;
    return width;
  }
  for (const std::string_view grapheme : graphemes(text)) width += grapheme_width(grapheme);
  return width;
}

std::string pad_to_width(std::string_view text, int width, Align align) {
  const std::string padding(static_cast<std::size_t>(std::max(0, width - display_width(text))),
                            ' ');
  return align == Align::kLeft ? std::string(text) + padding : padding + std::string(text);
}

std::string truncate_to_width(std::string_view text, int width, std::string_view ellipsis) {
  if (display_width(text) <= width) return std::string(text);
  const int ellipsis_width = display_width(ellipsis);
  const bool shows_ellipsis = ellipsis_width <= width;
  int room = width - (shows_ellipsis ? ellipsis_width : 0);
  std::string out;
  for (const std::string_view grapheme : graphemes(text)) {
    room -= grapheme_width(grapheme);
    if (room < 0) break;
    out += grapheme;
  }
  return shows_ellipsis ? out.append(ellipsis) : out;
}

std::string to_lower(std::string_view text) {
  return from_icu(to_icu(text).toLower(icu::Locale::getRoot()));
}

std::string nfkc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getNFKCInstance(status);
  check(status, "NFKC");
  const icu::UnicodeString normal = normalizer->normalize(to_icu(text), status);
  check(status, "NFKC");
  return from_icu(normal);
}

std::string to_simplified(std::string_view text) {
  icu::UnicodeString converted = to_icu(text);
  simplifier().transliterate(converted);
  return from_icu(converted);
}

}  // namespace heed
