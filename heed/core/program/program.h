// Score programs: what becomes of a score before the softmax, and which pairs are masked.
//
//   using namespace heed::program;
//   Table slope(slopes, {H});                                  // float[H]
//   ScoreProgram alibi(score() - slope[h()] * (t() - s()), t() >= s());
//
// Built from C++ expressions (expression.h), from Python by tracing, or from text: str() prints a
// program and parse() reads it, with tables numbered by their first use.
//
//   table0: float[1]           # name: type[rank]
//   score = dot - table0[h] * (t - s)
//   mask = s <= t
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "heed/core/element.h"
#include "heed/core/program/graph.h"

namespace heed::program {

// A captured tensor: read, never written. Strides in elements, any sign, 0 where broadcast.
struct TableView {
  const void* data = nullptr;
  Element element = Element::kFloat32;
  std::vector<int64_t> sizes, strides;
  std::shared_ptr<const void> owner = nullptr;  // of data, where the view is to keep it alive

  Type type() const;  // of its elements in an expression
};

struct TableType {
  Type type;
  int rank;
  bool operator==(const TableType&) const = default;
};

// What a derivative adds to a table: for each visible pair, `value` at the indices of the graph's
// node `lookup`.
struct TableGradient {
  int lookup;
  int value;
};

// The structure of a program, without tables' values: equal programs print equally.
class Program {
 public:
  // score: a node (or -1: dot itself), cast to float. mask: a bool node, or -1: all. A score of
  // where(c, x, -inf) becomes the mask c and the score x, likewise where it is added to something.
  // Adds the derivative to the graph and removes what nothing reads. ProgramError: a wrong type, a
  // lookup that disagrees with its table, more than kMostNodes nodes.
  Program(Graph graph, int score, int mask, std::vector<TableType> tables);

  const Graph& graph() const { return graph_; }
  int score() const { return score_; }  // node; a bare kDot where the score is dot
  int mask() const { return mask_; }    // node or -1
  bool reads_dot() const;               // score or mask does; else the product need not be computed
  bool is_identity() const;             // score() is dot itself
  const std::vector<TableType>& tables() const { return tables_; }

  // The derivative, over the same graph with the leaf kGradient. d_dot: -1 where the score does not
  // depend on dot in a way that has a derivative. Table gradients in the order of their lookups.
  int d_dot() const { return d_dot_; }
  const std::vector<TableGradient>& table_gradients() const { return table_gradients_; }

  std::string str() const;

 private:
  void take_mask_of_score();
  void check_tables() const;

  Graph graph_;
  int score_, mask_;
  std::vector<TableType> tables_;
  int d_dot_ = -1;
  std::vector<TableGradient> table_gradients_;
};

// A node in the printed form, for messages: long ones are cut.
std::string text_of(const Graph& graph, int node);

inline constexpr int kMostNodes = 1 << 15;  // of score and mask: far more than anyone writes

// Reads what str() prints; ProgramError names line and column. Kept: the same text gives the same
// program again.
//
// A line is a table (slope: float[1]), a name for what follows (x = t - s), score or mask; at least
// one of the last two is there. Tables are numbered as they are declared. Operators and their
// precedence are Python's: + - * / // % ** < <= > >= == != & | ~; functions neg abs exp log tanh
// sigmoid sqrt floor min max pow where int float bool; numbers 3, 3.5, 1e-3, inf, nan, true, false;
// # begins a comment; lines go on inside brackets.
std::shared_ptr<const Program> parse(std::string_view text);

}  // namespace heed::program
