// A program with its tables and sizes: checked, summarised and compiled. Made once a call.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "heed/core/band.h"
#include "heed/core/program/interval.h"
#include "heed/core/program/program.h"
#include "heed/core/program/scalar.h"

namespace heed::program {

struct Analysis;  // bound.cpp
struct Bytecode;
struct GradientBlock;

// The sizes that b, h, t, s run over, and which (t, s) are visited at all: s - t in
// [left, right] of the widest band (kUnbounded where there is none).
struct Sizes {
  int64_t B = 0, H = 0, T = 0, S = 0;
  int64_t left = -kUnbounded, right = kUnbounded;
};

// Keys [begin, end) that some of a range of queries may see; masked: not surely all of them, so
// the program's mask has to be evaluated.
struct Span {
  int64_t begin, end;
  bool masked;
};

class BoundProgram {
 public:
  // ProgramError: table count, rank or type differ from the program's; an index can leave its table
  // (Python's negative indices count from the end); an integer can pass 2^24 (kernels hold them in
  // floats).
  BoundProgram(std::shared_ptr<const Program> program, std::vector<TableView> tables,
               const Sizes& sizes);
  ~BoundProgram();
  BoundProgram(const BoundProgram&) = delete;
  BoundProgram& operator=(const BoundProgram&) = delete;

  const Program& program() const { return *program_; }
  const std::vector<TableView>& tables() const { return tables_; }
  const Sizes& sizes() const { return sizes_; }
  const Bytecode& code() const;
  const std::vector<GradientBlock>& gradient_blocks() const;  // by table

  // The band that is left of `band` when the mask's comparisons of t and s with one another and
  // with numbers (t - s <= 5, s < length[b], ...) are taken into it. Holds for head (b, h).
  Band tighten(const Band& band, int64_t b, int64_t h) const;
  // Whether tighten() leaves something of the mask to be evaluated before the score. (Terms that
  // read dot are in the code's score, which is -inf where they do not hold.)
  bool has_mask() const { return rest_of_mask_ >= 0; }

  // Into `spans` (cleared first) the keys in [begin, end) that queries [t_first, t_last] may see by
  // the rest of the mask, in rising order, neighbours of the same kind merged; cut at multiples of
  // `step`. For any number of threads at once.
  void spans(int64_t b, int64_t h, int64_t t_first, int64_t t_last, int64_t begin, int64_t end,
             int64_t step, std::vector<Span>& spans) const;

  // What node `node` of the program's graph can be over a box; kDot and kGradient are anything.
  Interval interval(int node, const Box& box) const;

  // The scalar interpreter, in double: the reference.
  using Pair = program::Pair;
  double value(int node, const Pair& pair) const {
    return evaluate(program_->graph(), tables_, node, pair);
  }
  bool visible(const Pair& pair) const;  // by the whole mask
  // Of kLookup's element in its table, were it dense. Always within it.
  int64_t offset(int lookup, const Pair& pair) const {
    return dense_offset(program_->graph(), tables_, lookup, pair);
  }

 private:
  std::shared_ptr<const Program> program_;
  std::vector<TableView> tables_;
  Sizes sizes_;
  int rest_of_mask_ = -1;  // a node of the analysis's graph
  std::unique_ptr<Analysis> analysis_;
};

}  // namespace heed::program
