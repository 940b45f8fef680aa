// The expressions of score programs: a graph of operations on dot, b, h, t, s, constants and
// captured tables. Numbers are real numbers here; Type tells what they stand for.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace heed {

// A program that can't be: an unknown operation, a type error, a table index that can leave its
// table. One line: what, where, what was expected.
class ProgramError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace program {

enum class Type : uint8_t { kBool, kInt, kFloat };

enum class Op : uint8_t {
  // Leaves.
  kDot,    // the product, scaled: float
  kBatch,  // b, h, t, s: int
  kHead,
  kQuery,
  kKey,
  kConstant,  // `value`; ints and bools are exact
  kGradient,  // d loss / d score; in derivatives only
  kLookup,    // table[args...]; type as the table's
  // Of one argument.
  kNeg,
  kAbs,
  kExp,
  kLog,
  kTanh,
  kSigmoid,
  kSqrt,
  kFloor,
  kNot,
  kCast,  // to `type`: float to int truncates; to bool is != 0; otherwise the same number
  // Of two.
  kAdd,
  kSub,
  kMul,
  kDiv,       // true division: float
  kFloorDiv,  // floor(a / b), Python's
  kMod,       // a - b * floor(a / b), Python's
  kPow,
  kMin,  // NaN where either is
  kMax,
  kLess,  // bool
  kLessEqual,
  kEqual,
  kNotEqual,
  kAnd,
  kOr,
  // Of three.
  kWhere,  // args[0] ? args[1] : args[2]
};

struct Node {
  Op op;
  Type type;
  double value = 0;            // kConstant
  int table = -1;              // kLookup
  std::vector<int> args = {};  // earlier nodes

  bool operator==(const Node&) const = default;
};

// Nodes in an order where arguments come first; equal nodes are one node. Adding moves nodes: copy
// what is needed of one first.
//
// Numbers of lower types stand for themselves in operations of higher ones (bool < int < float):
// dot + t needs no cast, and has none. Casts are to int from float, and upwards where nothing else
// says the type.
class Graph {
 public:
  // Checks types (ProgramError), folds constants and simplifies, then finds or adds the node.
  // Comparisons the other way round are kLess and kLessEqual with arguments exchanged; kCast is
  // cast()'s.
  int add(Op op, std::vector<int> args);
  int constant(double value, Type type);
  int leaf(Op op);                                             // dot, b, h, t, s, gradient
  int lookup(int table, Type type, std::vector<int> indices);  // rank = number of indices
  int cast(int node, Type type);

  // Finds or adds the node as it is: for simplifications, which know what they do.
  int find_or_add(Node node);

  const Node& operator[](int node) const { return nodes_[node]; }
  int size() const { return static_cast<int>(nodes_.size()); }

  bool reads_dot(int node) const { return reads_dot_[node]; }

  // An order by structure alone, whatever the nodes' numbers.
  bool precedes(int a, int b) const;

  // Forgets what the roots do not need and renumbers the rest in the order in which the roots reach
  // it, so that graphs of equal programs are equal. Roots of -1 stay.
  void prune(const std::vector<int*>& roots);

 private:
  int append(Node node, std::size_t hash);

  std::vector<Node> nodes_;
  std::vector<bool> reads_dot_;  // of each node: kDot is among what it is made of
  std::unordered_multimap<std::size_t, int> known_;
};

}  // namespace program
}  // namespace heed
