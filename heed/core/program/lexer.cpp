// The words of a program's text.
#include "heed/core/program/lexer.h"

#include <algorithm>
#include <charconv>

namespace heed::program {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

}  // namespace

void Lexer::fail(std::size_t at, const std::string& what) const {
  const std::string_view before = text_.substr(0, at);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t start = before.rfind('\n');  // npos + 1 is 0
  throw ProgramError("program line " + std::to_string(line) + ", column " +
                     std::to_string(at - (start + 1) + 1) + ": " + what);
}

Token Lexer::take(Token::Kind kind, std::size_t length) {
  const Token token = {.kind = kind, .text = text_.substr(at_, length), .at = at_};
  at_ += length;
  return token;
}

Token Lexer::number() {
  const char* const begin = text_.data() + at_;
  const char* const end = text_.data() + text_.size();
  double value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value);
  const auto length = static_cast<std::size_t>(stop - begin);
  if (error == std::errc::invalid_argument) fail(at_, "unexpected '.'");
  if (error == std::errc::result_out_of_range) fail(at_, "number out of range");
  Token token = take(Token::Kind::kNumber, length);
  token.value = value;
  const bool is_int = token.text.find_first_not_of("0123456789") == std::string_view::npos;
  token.type = is_int ? Type::kInt : Type::kFloat;
  if (is_int && value > static_cast<double>(int64_t{1} << 53)) fail(token.at, "integer too large");
  if (at_ < text_.size() && is_letter(text_[at_])) fail(at_, "a name right behind a number");
  return token;
}

Token Lexer::symbol() {
  const std::string_view rest = text_.substr(at_);
  for (const std::string_view pair : {"**", "//", "<=", ">=", "==", "!="}) {
    if (rest.starts_with(pair)) return take(Token::Kind::kSymbol, 2);
  }
  const char c = rest[0];
  if (std::string_view("+-*/%<>&|~()[],:=").find(c) == std::string_view::npos) {
    const bool printable = c > ' ' && c <= '~';
    fail(at_, "unexpected " + (printable ? "'" + std::string(1, c) + "'" : "character"));
  }
  if (c == '(' || c == '[') ++brackets_;
  if ((c == ')' || c == ']') && brackets_ > 0) --brackets_;
  return take(Token::Kind::kSymbol, 1);
}

Token Lexer::next() {
  for (; at_ < text_.size(); ++at_) {
    if (text_[at_] == '#') at_ = std::min(text_.find('\n', at_), text_.size());
    if (at_ == text_.size()) break;
    if (!is_space(text_[at_]) && (text_[at_] != '\n' || brackets_ == 0)) break;
  }
  if (at_ == text_.size()) return take(Token::Kind::kEnd, 0);
  const char c = text_[at_];
  if (c == '\n') return take(Token::Kind::kNewline, 1);
  if (is_digit(c) || c == '.') return number();
  if (!is_letter(c)) return symbol();
  std::size_t end = at_;
  while (end < text_.size() && (is_letter(text_[end]) || is_digit(text_[end]))) ++end;
  return take(Token::Kind::kName, end - at_);
}

std::string quoted(const Token& token) {
  if (token.kind == Token::Kind::kEnd) return "the end";
  if (token.kind == Token::Kind::kNewline) return "the end of the line";
  return "'" + std::string(token.text) + "'";
}

}  // namespace heed::program
