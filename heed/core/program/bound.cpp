// Binds a program: checks it, splits its mask, sums up its tables and compiles it; finds the spans
// of keys that a tile of queries may see.
#include "heed/core/program/bound.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "heed/core/program/bounds.h"
#include "heed/core/program/compile.h"
#include "heed/core/program/gradient_blocks.h"
#include "heed/core/program/mask_split.h"
#include "heed/core/program/ranges.h"

namespace heed::program {

struct Analysis {
  Analysis(const Graph& graph, const std::vector<TableView>& tables) : ranges(graph, tables) {}

  Ranges ranges;
  std::optional<Graph> own_graph;  // the program's and what joins its parts anew
  std::vector<BandTerm> band;
  std::vector<int> fixed, moving;  // what the rest of the mask needs, not of s and of s
  std::vector<GradientBlock> gradient_blocks;
  Bytecode code;
};

namespace {

Region whole_region(const Sizes& sizes) {
  return {.b_first = 0,
          .b_last = sizes.B - 1,
          .h_first = 0,
          .h_last = sizes.H - 1,
          .t_first = 0,
          .t_last = sizes.T - 1,
          .s_first = 0,
          .s_last = sizes.S - 1,
          .left = sizes.left,
          .right = sizes.right};
}

// Bisects a range of cells, of `step` keys each, until the mask is known or one cell is left.
class SpanSearch {
 public:
  SpanSearch(const Analysis& analysis, const Region& region, int64_t step, std::vector<Span>& spans)
      : analysis_(analysis),
        begin_(region.s_first),
        end_(region.s_last + 1),
        step_(step),
        spans_(spans),
        region_(region) {}

  void run(int mask, Interval* values) {
    for (const int id : analysis_.fixed) {
      values[id] = analysis_.ranges.evaluate(id, region_, values);
    }
    search(mask, values, begin_ / step_, (end_ - 1) / step_ + 1);
  }

 private:
  void search(int mask, Interval* values, int64_t first_cell, int64_t end_cell) {
    const int64_t begin = std::max(begin_, first_cell * step_);
    const int64_t end = std::min(end_, end_cell * step_);
    region_.s_first = begin;
    region_.s_last = end - 1;
    for (const int id : analysis_.moving) {
      values[id] = analysis_.ranges.evaluate(id, region_, values);
    }
    const Interval seen = values[mask];
    if (seen.high == 0) return;
    const bool all = seen.low == 1;
    if (all || end_cell - first_cell == 1 || analysis_.moving.empty()) {
      return append({begin, end, !all});
    }
    const int64_t middle = first_cell + (end_cell - first_cell) / 2;
    search(mask, values, first_cell, middle);
    search(mask, values, middle, end_cell);
  }

  void append(const Span& span) {
    const bool joins =
        !spans_.empty() && spans_.back().end == span.begin && spans_.back().masked == span.masked;
    if (joins) {
      spans_.back().end = span.end;
    } else {
      spans_.push_back(span);
    }
  }

  const Analysis& analysis_;
  const int64_t begin_, end_, step_;
  std::vector<Span>& spans_;
  Region region_;
};

// The nodes that kernels run, of the analysis's graph.
struct Outputs {
  int score, mask;
};

// What is left of the mask when the band has its part. Terms that read the product can't be told
// before it is there: they go into the score, -inf where they do not hold.
Outputs split_outputs(const Program& program, Analysis& analysis) {
  MaskSplit split = split_mask(program.graph(), program.mask(), analysis.ranges);
  analysis.band = std::move(split.band);
  const auto reads_pair = [&](int term) { return analysis.ranges.dependence(term).pair; };
  const auto late = std::partition(split.rest.begin(), split.rest.end(),
                                   [&](int term) { return !reads_pair(term); });
  Outputs outputs = {program.score(), -1};
  if (late == split.rest.end()) {
    if (split.rest.empty()) return outputs;
    if (analysis.band.empty()) return {program.score(), program.mask()};
    if (split.rest.size() == 1) return {program.score(), split.rest[0]};
  }
  Graph& graph = analysis.own_graph.emplace(program.graph());
  for (auto term = split.rest.begin(); term != late; ++term) {
    outputs.mask = outputs.mask < 0 ? *term : graph.add(Op::kAnd, {outputs.mask, *term});
  }
  const int masked = graph.constant(-std::numeric_limits<double>::infinity(), Type::kFloat);
  for (auto term = late; term != split.rest.end(); ++term) {
    outputs.score = graph.add(Op::kWhere, {*term, outputs.score, masked});
  }
  analysis.ranges.extend(graph);
  return outputs;
}

// Where no pair is ever asked about.
Guards all_guarded(const Graph& graph) {
  Guards guards;
  for (int id = 0; id < graph.size(); ++id) guards.emplace_back(graph[id].args.size(), true);
  return guards;
}

// Intervals by node, of this thread.
Interval* scratch(int nodes) {
  thread_local std::vector<Interval> values;
  if (values.size() < static_cast<std::size_t>(nodes)) values.resize(nodes);
  return values.data();
}

}  // namespace

BoundProgram::BoundProgram(std::shared_ptr<const Program> program, std::vector<TableView> tables,
                           const Sizes& sizes)
    : program_(std::move(program)), tables_(std::move(tables)), sizes_(sizes) {
  check_tables(*program_, tables_);
  analysis_ = std::make_unique<Analysis>(program_->graph(), tables_);
  Ranges& ranges = analysis_->ranges;
  const Outputs outputs = split_outputs(*program_, *analysis_);
  const Graph& graph = analysis_->own_graph ? *analysis_->own_graph : program_->graph();
  rest_of_mask_ = outputs.mask;
  if (has_mask()) {
    for (const int id : ranges.needs(rest_of_mask_)) {
      (ranges.dependence(id).key ? analysis_->moving : analysis_->fixed).push_back(id);
    }
  }
  Guards guards = all_guarded(graph);
  if (sizes.B > 0 && sizes.H > 0 && sizes.T > 0 && sizes.S > 0) {
    ranges.summarise(program_->mask(), rest_of_mask_);
    guards = check_bounds(*program_, graph, ranges, tables_, whole_region(sizes));
  }
  analysis_->gradient_blocks = program::gradient_blocks(graph, ranges, program_->table_gradients(),
                                                        tables_, guards, sizes.B, sizes.H);
  analysis_->code = compile({.graph = graph,
                             .score = outputs.score,
                             .mask = rest_of_mask_,
                             .d_dot = program_->d_dot(),
                             .table_gradients = program_->table_gradients(),
                             .tables = tables_,
                             .guards = guards,
                             .blocks = analysis_->gradient_blocks});
}

BoundProgram::~BoundProgram() = default;

const Bytecode& BoundProgram::code() const { return analysis_->code; }
const std::vector<GradientBlock>& BoundProgram::gradient_blocks() const {
  return analysis_->gradient_blocks;
}

Band BoundProgram::tighten(const Band& band, int64_t b, int64_t h) const {
  Band tight = band;
  const Pair head = {b, h, 0, 0, 0, 0};
  for (const BandTerm& term : analysis_->band) {
    double rest = term.rest.constant;
    for (const auto& [node, factor] : term.rest) rest += factor * value(node, head);
    tight = tightened(tight, term, rest);
  }
  return tight;
}

void BoundProgram::spans(int64_t b, int64_t h, int64_t t_first, int64_t t_last, int64_t begin,
                         int64_t end, int64_t step, std::vector<Span>& spans) const {
  spans.clear();
  if (t_first > t_last || begin >= end) return;
  if (!has_mask()) {
    spans.push_back({begin, end, false});
    return;
  }
  const Region region = {b, b, h, h, t_first, t_last, begin, end - 1};
  SpanSearch(*analysis_, region, step, spans).run(rest_of_mask_, scratch(rest_of_mask_ + 1));
}

Interval BoundProgram::interval(int node, const Box& box) const {
  const Region region = {box.b,       box.b,      box.h,       box.h,
                         box.t_first, box.t_last, box.s_first, box.s_last};
  Interval* const values = scratch(node + 1);
  for (const int id : analysis_->ranges.needs(node)) {
    values[id] = analysis_->ranges.evaluate(id, region, values);
  }
  return values[node];
}

bool BoundProgram::visible(const Pair& pair) const {
  return program_->mask() < 0 || value(program_->mask(), pair) != 0;
}

}  // namespace heed::program
