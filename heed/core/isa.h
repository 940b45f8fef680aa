// Which kernel set runs: found at run time, forced by HEED_ISA.
#pragma once

namespace heed {

// x86-64 levels: v2 = SSE4.2, v3 = AVX2 + FMA, v4 = AVX-512, v4bf16 = the same with AVX512-BF16.
// kRef is the scalar reference, which any machine has.
enum class Isa { kRef, kV2, kV3, kV4, kV4Bf16 };

const char* isa_name(Isa isa);  // "ref", "v2", "v3", "v4", "v4bf16"
bool isa_runs_here(Isa isa);    // built in, and this processor has it
Isa best_isa();                 // the fastest that runs here

// The set in use: HEED_ISA where it names one that runs here, else best_isa(). Read once.
// An unknown or impossible HEED_ISA is reported by isa_problem() and ignored here.
Isa isa();
const char* isa_problem();  // null, or one line saying why HEED_ISA can't be followed
void force_isa(Isa isa);    // for tests and benches; not while attention runs

}  // namespace heed
