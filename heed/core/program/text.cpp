// The printed form of a program: equal programs print equally, and parse() reads it.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "heed/core/program/operation.h"
#include "heed/core/program/program.h"

namespace heed::program {
namespace {

constexpr int kLongest = 32;  // nodes in a line before a part gets a line of its own

// Of a node alone, which has no names to be short by: what is deeper or comes later is "...".
constexpr int kDeepestPart = 12;
constexpr std::size_t kLongestPart = 200;  // characters

std::string text_of(double value, Type type) {
  if (type == Type::kBool) return value != 0 ? "true" : "false";
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[32];
  if (type == Type::kInt) {
    const auto end = std::to_chars(digits, std::end(digits), static_cast<int64_t>(value)).ptr;
    return {digits, end};
  }
  std::string text(digits, std::to_chars(digits, std::end(digits), value).ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph) {}
  std::string whole(const Program& program);
  std::string part(int id);

 private:
  void name_nodes(const Program& program);
  bool is_small(int id) const;
  void line(const std::string& name);
  void print(int id, Level around);
  void write(int id, Level around);
  void write_operator(const Node& node, const Operation& known);
  void write_list(const std::vector<int>& args, char open, char close);

  const Graph& graph_;
  std::vector<int> names_;  // of each node: x<number>, or -1
  std::string text_;
  bool is_part_ = false;
  int depth_ = 0;
};

// A leaf, or one operation on leaves.
bool Printer::is_small(int id) const {
  for (const int arg : graph_[id].args) {
    if (!graph_[arg].args.empty()) return false;
  }
  return true;
}

// Named are nodes that are used twice, unless they are small, and parts that would make a line too
// long. The graph's first nodes are those of score and mask, in the order in which they are read.
void Printer::name_nodes(const Program& program) {
  const int count = std::max(program.score(), program.mask()) + 1;
  std::vector<int> uses(count), lengths(count);
  for (int id = 0; id < count; ++id) {
    for (const int arg : graph_[id].args) ++uses[arg];
  }
  for (const int root : {program.score(), program.mask()}) {
    if (root >= 0) ++uses[root];
  }
  names_.assign(count, -1);
  int names = 0;
  for (int id = 0; id < count; ++id) {
    lengths[id] = 1;
    for (const int arg : graph_[id].args) lengths[id] += lengths[arg];
    const bool is_root = uses[id] == 1 && (id == program.score() || id == program.mask());
    const bool is_shared = uses[id] > 1 && !is_small(id);
    if (!is_shared && (lengths[id] <= kLongest || is_root)) continue;
    lengths[id] = 1;
    names_[id] = names++;
  }
}

void Printer::line(const std::string& name) { text_ += (text_.empty() ? "" : "\n") + name + " = "; }

void Printer::print(int id, Level around) {
  if (names_[id] >= 0) {
    text_ += "x" + std::to_string(names_[id]);
  } else if (is_part_ && (depth_ == kDeepestPart || text_.size() > kLongestPart)) {
    text_ += "...";
  } else {
    ++depth_;
    write(id, around);
    --depth_;
  }
}

void Printer::write_list(const std::vector<int>& args, char open, char close) {
  text_ += open;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (i > 0) text_ += ", ";
    print(args[i], Level::kCall);
  }
  text_ += close;
}

void Printer::write_operator(const Node& node, const Operation& known) {
  const auto tighter = [](Level level) { return static_cast<Level>(static_cast<int>(level) + 1); };
  if (node.args.size() == 1) {
    text_ += known.name;
    return print(node.args[0], known.level);
  }
  const bool chains = known.level != Level::kCompare;
  print(node.args[0], chains ? known.level : tighter(known.level));
  text_ += " " + std::string(known.name) + " ";
  print(node.args[1], tighter(known.level));
}

void Printer::write(int id, Level around) {
  const Node& node = graph_[id];
  const Operation& known = operation(node.op);
  if (node.op == Op::kConstant) {
    text_ += text_of(node.value, node.type);
  } else if (node.op == Op::kLookup) {
    text_ += "table" + std::to_string(node.table);
    write_list(node.args, '[', ']');
  } else if (known.level != Level::kCall) {
    const bool brackets = known.level < around;
    if (brackets) text_ += '(';
    write_operator(node, known);
    if (brackets) text_ += ')';
  } else {
    text_ += node.op == Op::kCast ? name_of(node.type) : known.name;
    if (!node.args.empty()) write_list(node.args, '(', ')');
  }
}

std::string Printer::part(int id) {
  is_part_ = true;
  names_.assign(id + 1, -1);
  write(id, Level::kCall);
  return std::move(text_);
}

std::string Printer::whole(const Program& program) {
  name_nodes(program);
  for (std::size_t i = 0; i < program.tables().size(); ++i) {
    const TableType& table = program.tables()[i];
    text_ += (i == 0 ? "table" : "\ntable") + std::to_string(i) + ": " + name_of(table.type) + "[" +
             std::to_string(table.rank) + "]";
  }
  for (int id = 0; id < static_cast<int>(names_.size()); ++id) {
    if (names_[id] < 0) continue;
    line("x" + std::to_string(names_[id]));
    write(id, Level::kCall);
  }
  line("score");
  print(program.score(), Level::kCall);
  if (program.mask() >= 0) {
    line("mask");
    print(program.mask(), Level::kCall);
  }
  return std::move(text_);
}

}  // namespace

std::string Program::str() const { return Printer(graph_).whole(*this); }

std::string text_of(const Graph& graph, int node) { return Printer(graph).part(node); }

}  // namespace heed::program
