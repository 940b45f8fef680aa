// Compiled once per instruction set, HEED_LEVEL, as the kernels are.
#include "tests/core/program_probe.h"

#include "heed/core/isa/program.inc"

#define HEED_JOIN2(a, b) a##b
#define HEED_JOIN(a, b) HEED_JOIN2(a, b)

namespace heed::testing {

int64_t HEED_JOIN(program_probe_floats_, HEED_LEVEL)(const ProbeHead& head) {
  return program_floats(*head.code, {head.most_lanes, head.most_rows});
}

void HEED_JOIN(program_probe_, HEED_LEVEL)(const ProbeHead& head, const ProbePatch* patches,
                                           int64_t count) {
  ProgramRun run;
  program_begin(run, *head.code, head.b, head.h, {head.most_lanes, head.most_rows}, head.workspace);
  for (int64_t i = 0; i < count; ++i) {
    const ProbePatch& from = patches[i];
    const Patch patch = {
        from.lanes_are_queries, from.lane0, from.row0, from.lanes, from.rows, from.stride};
    const bool same_lanes = i > 0 && patches[i - 1].lane0 == from.lane0 &&
                            patches[i - 1].lanes == from.lanes &&
                            patches[i - 1].lanes_are_queries == from.lanes_are_queries;
    if (!same_lanes) program_lanes(run, patch);
    program_patch(run, patch);
    if (from.scores != nullptr) program_scores(run, patch, from.scores);
    if (from.masked != nullptr) program_mask(run, patch, from.masked);
    if (from.g != nullptr) program_gradients(run, patch, from.dot, from.p, from.g, head.d_tables);
  }
}

}  // namespace heed::testing
