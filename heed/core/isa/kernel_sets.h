// The kernel set that runs now.
#pragma once

#include "heed/core/isa/kernels.h"

namespace heed {

// Null: the reference.
inline const KernelSet* kernels_in_use() {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kV2:
      return kernels_v2();
    case Isa::kV3:
      return kernels_v3();
    case Isa::kV4:
      return kernels_v4();
    case Isa::kV4Bf16:
      return kernels_v4bf16();
    case Isa::kRef:
      break;
  }
#endif
  return nullptr;
}

}  // namespace heed
