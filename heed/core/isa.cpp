// Finds the kernel set to use: the processor's level, or what HEED_ISA asks for.
#include "heed/core/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace heed {
namespace {

constexpr Isa kAll[] = {Isa::kV4Bf16, Isa::kV4, Isa::kV3, Isa::kV2, Isa::kRef};  // fastest first

struct Choice {
  Isa isa;
  const char* problem;
};

Choice choose() {
  const char* asked = std::getenv("HEED_ISA");
  if (asked == nullptr || *asked == '\0') return {best_isa(), nullptr};
  for (Isa isa : kAll) {
    if (std::strcmp(asked, isa_name(isa)) != 0) continue;
    if (isa_runs_here(isa)) return {isa, nullptr};
    return {best_isa(), "HEED_ISA: this processor or build lacks the level asked for; unset it"};
  }
  return {best_isa(), "HEED_ISA: unknown level; use v2, v3, v4, v4bf16 or ref"};
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

std::atomic<int> forced{-1};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kV2:
      return "v2";
    case Isa::kV3:
      return "v3";
    case Isa::kV4:
      return "v4";
    case Isa::kV4Bf16:
      return "v4bf16";
    case Isa::kRef:
      break;
  }
  return "ref";
}

bool isa_runs_here(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v2 = __builtin_cpu_supports("sse3") && __builtin_cpu_supports("ssse3") &&
                  __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
                  __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kV2:
      return v2;
    case Isa::kV3:
      return v3;
    case Isa::kV4:
      return v4;
    case Isa::kV4Bf16:
      return v4 && __builtin_cpu_supports("avx512bf16");
  }
#endif
  return isa == Isa::kRef;
}

Isa best_isa() {
  for (Isa isa : kAll) {
    if (isa_runs_here(isa)) return isa;
  }
  return Isa::kRef;
}

Isa isa() {
  const int now = forced.load(std::memory_order_relaxed);
  return now < 0 ? choice().isa : static_cast<Isa>(now);
}

const char* isa_problem() { return choice().problem; }

void force_isa(Isa isa) { forced.store(static_cast<int>(isa), std::memory_order_relaxed); }

}  // namespace heed
