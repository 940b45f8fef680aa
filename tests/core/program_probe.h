// The evaluator of score programs of each instruction set, on a test's own patches.
#pragma once

#include <cstdint>

#include "heed/core/program/bytecode.h"

namespace heed::testing {

// A patch as program.inc has it, and its arrays; those that are null are left out.
struct ProbePatch {
  bool lanes_are_queries;
  int64_t lane0, row0, lanes, rows, stride;
  float* scores;  // in: dot; out: the score
  float* masked;  // in: scores; out: -inf where masked
  const float *dot, *p;
  float* g;  // in: d loss / d score; out: d loss / d dot
};

struct ProbeHead {
  const program::Bytecode* code;
  int64_t b, h, most_lanes, most_rows;
  float* workspace;
  const program::TableTarget* d_tables;
};

// Patches of one head after one another, or only the floats of workspace that they need.
using Probe = void (*)(const ProbeHead& head, const ProbePatch* patches, int64_t count);
using ProbeFloats = int64_t (*)(const ProbeHead& head);

#define HEED_DECLARE_PROBE(level)                                                 \
  void program_probe_##level(const ProbeHead&, const ProbePatch*, int64_t count); \
  int64_t program_probe_floats_##level(const ProbeHead&);
#if defined(__x86_64__)
HEED_DECLARE_PROBE(v2)
HEED_DECLARE_PROBE(v3)
HEED_DECLARE_PROBE(v4)
#endif
#undef HEED_DECLARE_PROBE

}  // namespace heed::testing
