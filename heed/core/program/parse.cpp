// Programs from text: recursive descent over the words, straight into the graph.
#include <algorithm>
#include <limits>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "heed/core/program/lexer.h"
#include "heed/core/program/operation.h"
#include "heed/core/program/program.h"

namespace heed::program {
namespace {

// So that no text can exhaust stack or memory; printed programs stay far below.
constexpr int kDeepest = 200;
constexpr std::size_t kLongestText = std::size_t{1} << 22;
constexpr int kMostGraphNodes = 8 * kMostNodes;
constexpr int kHighestRank = 16;

struct Infix {
  std::string_view symbol;
  Op op;
  bool exchanged = false;
};
constexpr Infix kInfix[] = {
    {"+", Op::kAdd},        {"-", Op::kSub},    {"*", Op::kMul},       {"/", Op::kDiv},
    {"//", Op::kFloorDiv},  {"%", Op::kMod},    {"<", Op::kLess},      {"<=", Op::kLessEqual},
    {">", Op::kLess, true}, {"==", Op::kEqual}, {"!=", Op::kNotEqual}, {">=", Op::kLessEqual, true},
    {"&", Op::kAnd},        {"|", Op::kOr},
};
constexpr Op kFunctions[] = {Op::kAbs,   Op::kExp, Op::kLog, Op::kTanh, Op::kSigmoid, Op::kSqrt,
                             Op::kFloor, Op::kMin, Op::kMax, Op::kPow,  Op::kWhere};
constexpr Op kLeaves[] = {Op::kDot, Op::kBatch, Op::kHead, Op::kQuery, Op::kKey};
constexpr Type kTypes[] = {Type::kInt, Type::kFloat, Type::kBool};

const Infix* infix_of(const Token& token) {
  if (token.kind != Token::Kind::kSymbol) return nullptr;
  const auto known = std::find_if(std::begin(kInfix), std::end(kInfix),
                                  [&](const Infix& infix) { return token.is(infix.symbol); });
  return known == std::end(kInfix) ? nullptr : known;
}

std::optional<Op> named(std::string_view name, const Op* begin, const Op* end) {
  const Op* known = std::find_if(begin, end, [&](Op op) { return name == operation(op).name; });
  return known == end ? std::nullopt : std::optional(*known);
}
std::optional<Op> function_named(std::string_view name) {
  if (name == "neg") return Op::kNeg;
  return named(name, std::begin(kFunctions), std::end(kFunctions));
}
std::optional<Op> leaf_named(std::string_view name) {
  return named(name, std::begin(kLeaves), std::end(kLeaves));
}
std::optional<Type> type_named(std::string_view name) {
  for (const Type type : kTypes) {
    if (name == name_of(type)) return type;
  }
  return std::nullopt;
}

struct Constant {
  std::string_view name;
  double value;
  Type type;
};
constexpr Constant kConstants[] = {{"true", 1, Type::kBool},
                                   {"false", 0, Type::kBool},
                                   {"inf", std::numeric_limits<double>::infinity(), Type::kFloat},
                                   {"nan", std::numeric_limits<double>::quiet_NaN(), Type::kFloat}};
const Constant* constant_named(std::string_view name) {
  for (const Constant& constant : kConstants) {
    if (name == constant.name) return &constant;
  }
  return nullptr;
}

bool is_reserved(std::string_view name) {
  return function_named(name) || leaf_named(name) || type_named(name) || constant_named(name);
}

class Parser {
 public:
  explicit Parser(std::string_view text) : lexer_(text) { advance(); }
  std::shared_ptr<const Program> run();

 private:
  struct Symbol {
    bool is_table;
    int index;  // of the table, or node
  };
  struct Deeper;  // counts nesting

  Token advance() { return std::exchange(token_, lexer_.next()); }
  bool skip(std::string_view symbol);
  void expect(std::string_view symbol);
  Token expect_name(const std::string& what);
  [[noreturn]] void fail(const Token& token, const std::string& what) const {
    lexer_.fail(token.at, what);
  }
  [[noreturn]] void unknown(const Token& name) const;
  template <class Build>
  int build(const Token& where, const Build& build);

  void line();
  void table(const Token& name);
  void assignment(const Token& name);
  int expression(Level level);
  int unary();
  int power();
  int primary();
  int call(const Token& name);
  int name(const Token& name);
  int lookup(const Token& name, int index);
  std::vector<int> list(std::string_view close);

  Lexer lexer_;
  Token token_;  // the one ahead
  int depth_ = 0;
  Graph graph_;
  std::unordered_map<std::string_view, Symbol> symbols_;
  std::vector<std::string_view> names_;  // in the order of their definition
  std::vector<TableType> tables_;
  int score_ = -1, mask_ = -1;
};

struct Parser::Deeper {
  explicit Deeper(Parser& parser) : depth(parser.depth_) {
    if (++depth > kDeepest) parser.fail(parser.token_, "nested too deeply");
  }
  ~Deeper() { --depth; }
  int& depth;
};

bool Parser::skip(std::string_view symbol) {
  if (!token_.is(symbol)) return false;
  advance();
  return true;
}

void Parser::expect(std::string_view symbol) {
  if (!skip(symbol)) fail(token_, "expected '" + std::string(symbol) + "', got " + quoted(token_));
}

Token Parser::expect_name(const std::string& what) {
  if (token_.kind != Token::Kind::kName) {
    fail(token_, "expected " + what + ", got " + quoted(token_));
  }
  return advance();
}

void Parser::unknown(const Token& name) const {
  constexpr std::size_t kMostNames = 20;
  std::string known;
  for (const Op leaf : kLeaves) known += operation(leaf).name + std::string(", ");
  for (std::size_t i = 0; i < std::min(names_.size(), kMostNames); ++i) {
    known += std::string(names_[i]) + ", ";
  }
  known.resize(known.size() - 2);
  if (names_.size() > kMostNames) known += ", ...";
  fail(name, "unknown name " + quoted(name) + "; known: " + known);
}

// Adds to the graph; its errors get the place in the text.
template <class Build>
int Parser::build(const Token& where, const Build& build) {
  if (graph_.size() > kMostGraphNodes) fail(where, "too many operations");
  try {
    return build();
  } catch (const ProgramError& error) {
    fail(where, error.what());
  }
}

std::vector<int> Parser::list(std::string_view close) {
  std::vector<int> items;
  if (skip(close)) return items;
  do {
    items.push_back(expression(Level::kCompare));
  } while (skip(","));
  expect(close);
  return items;
}

int Parser::call(const Token& name) {
  const auto function = function_named(name.text);
  const auto type = type_named(name.text);
  if (!function && !type) {
    std::string known = "neg";
    for (const Op op : kFunctions) known += std::string(", ") + operation(op).name;
    for (const Type known_type : kTypes) known += std::string(", ") + name_of(known_type);
    fail(name, "unknown function " + quoted(name) + "; known: " + known);
  }
  const std::vector<int> args = list(")");
  const auto arity = static_cast<std::size_t>(type ? 1 : operation(*function).arity);
  if (args.size() != arity) {
    fail(name, std::string(name.text) + ": expected " + std::to_string(arity) +
                   (arity == 1 ? " argument" : " arguments") + ", got " +
                   std::to_string(args.size()));
  }
  return build(name,
               [&] { return type ? graph_.cast(args[0], *type) : graph_.add(*function, args); });
}

int Parser::name(const Token& name) {
  if (skip("(")) return call(name);
  const auto symbol = symbols_.find(name.text);
  if (symbol != symbols_.end() && symbol->second.is_table)
    return lookup(name, symbol->second.index);
  if (token_.is("[")) fail(name, quoted(name) + " is not a table");
  if (symbol != symbols_.end()) return symbol->second.index;
  if (const auto leaf = leaf_named(name.text)) return graph_.leaf(*leaf);
  const Constant* constant = constant_named(name.text);
  if (constant == nullptr) unknown(name);
  return graph_.constant(constant->value, constant->type);
}

int Parser::lookup(const Token& name, int index) {
  const TableType& type = tables_[index];
  const std::string rank = std::to_string(type.rank) + (type.rank == 1 ? " index" : " indices");
  const std::string expected = "table " + quoted(name) + ": expected " + rank + " in [], got ";
  if (!skip("[")) fail(name, expected + "none");
  std::vector<int> indices = list("]");
  if (static_cast<int>(indices.size()) != type.rank) {
    fail(name, expected + std::to_string(indices.size()));
  }
  return build(name, [&] { return graph_.lookup(index, type.type, std::move(indices)); });
}

int Parser::primary() {
  if (token_.kind == Token::Kind::kName) return name(advance());
  if (token_.kind == Token::Kind::kNumber) {
    const Token number = advance();
    return graph_.constant(number.value, number.type);
  }
  if (!skip("(")) fail(token_, "expected a value, got " + quoted(token_));
  const int inner = expression(Level::kCompare);
  expect(")");
  return inner;
}

// Binds tighter than a sign on its left, and to the right first.
int Parser::power() {
  const int base = primary();
  const Token at = token_;
  if (!skip("**")) return base;
  const int exponent = unary();
  return build(at, [&] { return graph_.add(Op::kPow, {base, exponent}); });
}

int Parser::unary() {
  const Deeper deeper(*this);
  const Token at = token_;
  if (skip("+")) return unary();
  const Op op = at.is("~") ? Op::kNot : Op::kNeg;
  if (!skip("-") && !skip("~")) return power();
  const int operand = unary();
  return build(at, [&] { return graph_.add(op, {operand}); });
}

// Operators that bind at least as tightly as `level`.
int Parser::expression(Level level) {
  int left = unary();
  for (;;) {
    const Infix* infix = infix_of(token_);
    if (infix == nullptr || operation(infix->op).level < level) return left;
    const Level own = operation(infix->op).level;
    const Token at = advance();
    int right = expression(static_cast<Level>(static_cast<int>(own) + 1));
    if (infix->exchanged) std::swap(left, right);
    left = build(at, [&] { return graph_.add(infix->op, {left, right}); });
    const Infix* following = infix_of(token_);
    if (own == Level::kCompare && following != nullptr &&
        operation(following->op).level == Level::kCompare) {
      fail(token_, "comparisons do not chain: write (a < b) & (b < c)");
    }
  }
}

void Parser::table(const Token& name) {
  const Token type_name = expect_name("a type");
  const auto type = type_named(type_name.text);
  if (!type) fail(type_name, "expected int, float or bool, got " + quoted(type_name));
  expect("[");
  const Token rank = advance();
  if (rank.kind != Token::Kind::kNumber || rank.type != Type::kInt || rank.value > kHighestRank) {
    fail(rank,
         "expected a rank from 0 to " + std::to_string(kHighestRank) + ", got " + quoted(rank));
  }
  expect("]");
  symbols_[name.text] = {true, static_cast<int>(tables_.size())};
  tables_.push_back({*type, static_cast<int>(rank.value)});
  names_.push_back(name.text);
}

void Parser::assignment(const Token& name) {
  const int node = expression(Level::kCompare);
  if (name.text == "score") {
    score_ = node;
  } else if (name.text == "mask") {
    if (graph_[node].type != Type::kBool) {
      fail(name, std::string("mask: expected bool, got ") + name_of(graph_[node].type));
    }
    mask_ = node;
  } else {
    symbols_[name.text] = {false, node};
    names_.push_back(name.text);
  }
}

void Parser::line() {
  const Token name = expect_name("a name");
  const bool is_output = name.text == "score" || name.text == "mask";
  const bool is_twice = name.text == "score"  ? score_ >= 0
                        : name.text == "mask" ? mask_ >= 0
                                              : symbols_.count(name.text) > 0;
  if (is_reserved(name.text)) fail(name, quoted(name) + " has a meaning of its own");
  if (is_twice) fail(name, quoted(name) + " is defined twice");
  if (!is_output && skip(":")) {
    table(name);
  } else if (skip("=")) {
    assignment(name);
  } else {
    fail(token_, "expected '=' behind " + quoted(name) + ", got " + quoted(token_));
  }
  if (token_.kind != Token::Kind::kNewline && token_.kind != Token::Kind::kEnd) {
    fail(token_, "expected an operator or the end of the line, got " + quoted(token_));
  }
}

std::shared_ptr<const Program> Parser::run() {
  while (token_.kind != Token::Kind::kEnd) {
    if (token_.kind == Token::Kind::kNewline) {
      advance();
    } else {
      line();
    }
  }
  if (score_ < 0 && mask_ < 0) fail(token_, "expected a line 'score = ...' or 'mask = ...'");
  return std::make_shared<const Program>(std::move(graph_), score_, mask_, std::move(tables_));
}

// Programs by their text. Emptied when full: programs are few, and cheap to read again.
class Cache {
 public:
  std::shared_ptr<const Program> find(std::string_view text) {
    const std::lock_guard lock(mutex_);
    const auto known = programs_.find(text);
    return known == programs_.end() ? nullptr : known->second;
  }

  // The program that is kept: where another thread was first, its.
  std::shared_ptr<const Program> keep(std::string_view text,
                                      std::shared_ptr<const Program> program) {
    constexpr std::size_t kMostPrograms = 1000, kLongestKept = std::size_t{1} << 16;
    if (text.size() > kLongestKept) return program;
    const std::lock_guard lock(mutex_);
    if (programs_.size() >= kMostPrograms) programs_.clear();
    return programs_.try_emplace(std::string(text), std::move(program)).first->second;
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Program>, Hash, std::equal_to<>> programs_;
};

}  // namespace

std::shared_ptr<const Program> parse(std::string_view text) {
  static Cache cache;
  if (auto known = cache.find(text)) return known;
  if (text.size() > kLongestText) {
    throw ProgramError("program: expected at most " + std::to_string(kLongestText) +
                       " characters, got " + std::to_string(text.size()));
  }
  return cache.keep(text, Parser(text).run());
}

}  // namespace heed::program
