// The words of a program's text, and errors that name line and column.
#pragma once

#include <string>
#include <string_view>

#include "heed/core/program/graph.h"

namespace heed::program {

struct Token {
  enum class Kind { kName, kNumber, kSymbol, kNewline, kEnd };
  Kind kind = Kind::kEnd;
  std::string_view text;
  std::size_t at = 0;  // where in the whole text
  double value = 0;    // of a number
  Type type = Type::kInt;

  bool is(std::string_view symbol) const { return kind == Kind::kSymbol && text == symbol; }
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  // Newlines inside brackets and comments are skipped.
  Token next();
  [[noreturn]] void fail(std::size_t at, const std::string& what) const;

 private:
  Token take(Token::Kind kind, std::size_t length);
  Token number();
  Token symbol();

  std::string_view text_;
  std::size_t at_ = 0;
  int brackets_ = 0;
};

// How a message calls a token: 'x', end of line.
std::string quoted(const Token& token);

}  // namespace heed::program
