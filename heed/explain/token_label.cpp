// Token labels; ICU knows the letters.
#include "heed/explain/token_label.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <string_view>

namespace heed {
namespace {

constexpr UChar32 kWordMarker = 0x2581;  // SentencePiece's stand-in for a space
constexpr UChar32 kReplacement = 0xFFFD;
constexpr const char* kLoneSpace = "\u2423";

// Escape sequences, line ends and direction marks would reach beyond their own cell.
bool is_obeyed(UChar32 c) {
  const int8_t type = u_charType(c);
  return type == U_CONTROL_CHAR || type == U_LINE_SEPARATOR || type == U_PARAGRAPH_SEPARATOR ||
         u_hasBinaryProperty(c, UCHAR_BIDI_CONTROL);
}

// Scripts without spaces (Han, Thai, ...) have no pieces of words to mark.
bool is_letter_of_spaced_script(UChar32 c) {
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(c, &error);
  return u_isalpha(c) && U_SUCCESS(error) && !uscript_breaksBetweenLetters(script);
}

void append(std::string& text, UChar32 c) {
  char bytes[U8_MAX_LENGTH];
  int32_t size = 0;
  U8_APPEND_UNSAFE(bytes, size, c);
  text.append(bytes, static_cast<size_t>(size));
}

struct Piece {
  TokenLabel label;
  UChar32 first = 0, last = 0;
};

Piece read_piece(std::string_view token) {
  Piece piece;
  const auto length = static_cast<int32_t>(token.size());
  for (int32_t i = 0; i < length;) {
    const bool at_start = i == 0;
    UChar32 c;
    U8_NEXT(token.data(), i, length, c);
    if (c == kWordMarker && at_start) {
      piece.label.starts_word = true;
      continue;
    }
    if (c == kWordMarker) c = ' ';
    if (c < 0 || is_obeyed(c)) c = kReplacement;
    if (piece.label.text.empty()) piece.first = c;
    piece.last = c;
    append(piece.label.text, c);
  }
  if (piece.label.text.empty()) piece.label.text = kLoneSpace;
  return piece;
}

}  // namespace

std::vector<TokenLabel> token_labels(const std::vector<std::string>& tokens) {
  std::vector<TokenLabel> labels;
  labels.reserve(tokens.size());
  UChar32 previous = 0;
  for (const std::string& token : tokens) {
    Piece piece = read_piece(token);
    piece.label.continues_word = !piece.label.starts_word && is_letter_of_spaced_script(previous) &&
                                 is_letter_of_spaced_script(piece.first);
    previous = piece.last;
    labels.push_back(std::move(piece.label));
  }
  return labels;
}

}  // namespace heed
