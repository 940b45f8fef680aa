// Runs a test's body under each kernel set in turn.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "heed/core/isa.h"

namespace heed::testing {

// The sets to test: the one HEED_ISA names, or all that run here.
inline std::vector<Isa> tested_isas() {
  // Linked in place of the real ones, which this processor may lack.
  if (std::getenv("HEED_EMULATED_PAIRS") != nullptr) {
    if (isa_runs_here(Isa::kV4)) return {Isa::kV4Bf16};
    std::puts("skipped: the emulated pairs need AVX-512");
    return {};
  }
  if (std::getenv("HEED_ISA") != nullptr) return {isa()};
  std::vector<Isa> all;
  for (Isa level : {Isa::kRef, Isa::kV2, Isa::kV3, Isa::kV4, Isa::kV4Bf16}) {
    if (isa_runs_here(level)) all.push_back(level);
  }
  return all;
}

template <class Body>
void for_each_isa(Body body) {
  const Isa before = isa();
  for (Isa level : tested_isas()) {
    force_isa(level);
    SCOPED_TRACE(isa_name(level));
    body();
  }
  force_isa(before);
}

}  // namespace heed::testing
