// Unicode text over ICU: validity, code points, terminal cells, case, normal forms. Strings are
// UTF-8; where a function is given invalid bytes it treats each as U+FFFD and never fails.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace heed {

std::size_t valid_utf8_prefix(std::string_view text);  // bytes before the first bad one
bool is_valid_utf8(std::string_view text);

std::vector<char32_t> code_points(std::string_view text);
void append_utf8(std::string& text, char32_t code_point);
bool is_space(char32_t code_point);  // Unicode white space and the separators U+001C to U+001F
std::vector<std::string_view> split_whitespace(std::string_view text);
std::string_view strip(std::string_view text);        // without white space at both ends
std::string_view strip_right(std::string_view text);  // without white space at the end

// User-perceived characters: a letter with its accents, an emoji with its modifiers.
std::vector<std::string_view> graphemes(std::string_view text);

// Terminal cells: East Asian wide and full-width characters and emoji take 2; combining marks,
// joiners and control characters 0; all else 1.
int display_width(std::string_view text);
enum class Align { kLeft, kRight };
std::string pad_to_width(std::string_view text, int width, Align align = Align::kLeft);
// The longest run of whole graphemes, ellipsis included, that fits into `width` cells; the text
// itself where it fits.
std::string truncate_to_width(std::string_view text, int width, std::string_view ellipsis = "…");

std::string to_lower(std::string_view text);
std::string nfkc(std::string_view text);
std::string to_simplified(
    std::string_view text);  // traditional Chinese characters to simplified ones

}  // namespace heed
