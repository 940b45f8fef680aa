// torch.autocast("cpu"): queries, keys, values and what is learnt beside them come in its type, as
// torch's own attention has it; tables and row weights stay as they are.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "heed/ops/boxed.h"

namespace heed {
namespace {

void cast_and_call(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(c10::DispatchKey::AutocastCPU);
  const at::ScalarType type = at::autocast::get_autocast_dtype(at::kCPU);
  const BoxedCall call(op, *stack);
  for (size_t i = 0; i < call.count(); ++i) {
    c10::IValue& argument = call.argument(i);
    if (!argument.isTensor() || !is_among(call.name(i), {"q", "k", "v", "weight", "sinks"})) {
      continue;
    }
    argument = at::autocast::cached_cast(type, argument.toTensor(), at::kCPU);
  }
  op.callBoxed(stack);
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, AutocastCPU, m) {
  for (const char* name : {"attention", "varlen_attention", "attention_weights", "attention_stats",
                           "linear_attention"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&heed::cast_and_call>());
  }
}
