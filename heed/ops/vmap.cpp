// torch.vmap over the operators.
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <ATen/functorch/PlumbingHelper.h>

#include "heed/ops/boxed.h"
#include "heed/ops/mapped.h"
#include "heed/ops/operands.h"

namespace heed {
namespace {

using at::Tensor;
using torch::jit::Stack;

// The innermost torch.vmap.
class InnermostVmap final : public Mapped {
 public:
  InnermostVmap() : layer_(*at::functorch::maybeCurrentDynamicLayer()) {}

  c10::SymInt size() const override { return layer_.batchSize(); }

  std::pair<Tensor, bool> unwrap(const Tensor& wrapped) const override {
    const auto [tensor, dim] = at::functorch::unwrapTensorAtLevel(wrapped, layer_.layerId());
    return {dim ? tensor.movedim(*dim, 0) : tensor, dim.has_value()};
  }

  Tensor wrap(const Tensor& tensor) const override {
    return at::functorch::makeBatched(tensor, /*dim=*/0, layer_.layerId());
  }

 private:
  const at::functorch::DynamicLayer layer_;
};

// A missing seed of dropout is drawn above vmap, whose `randomness` says whether each element gets
// its own.
void draw_missing_seed(const BoxedCall& call) {
  const c10::IValue* dropout_p = call.find("dropout_p");
  if (dropout_p == nullptr) return;
  AttentionOptions options{.dropout_p = dropout_p->toDouble()};
  if (call.find("seed") == nullptr && call.find("drawn_seed") == nullptr) draw_seed(options);
  if (!options.drawn_seed.defined()) return;
  for (size_t i = 0; i < call.count(); ++i) {
    if (call.name(i) == "drawn_seed") call.argument(i) = options.drawn_seed;
  }
}

void in_vmap(const c10::OperatorHandle& op, Stack* stack) {
  const BoxedCall call(op, *stack);
  draw_missing_seed(call);
  const c10::impl::ExcludeDispatchKeyGuard below(
      c10::DispatchKeySet{c10::DispatchKey::FuncTorchVmapMode, c10::DispatchKey::FuncTorchBatched});
  const InnermostVmap mapped;
  bool any = false;
  for (size_t i = 0; i < call.count(); ++i) any = any || mapped.is_mapped(call.argument(i));
  return any ? call_mapped(op, stack, mapped) : op.callBoxed(stack);
}

}  // namespace
}  // namespace heed

// Of the mode, not of mapped tensors: where only tables are mapped, the dispatcher does not see it.
TORCH_LIBRARY_IMPL(heed, FuncTorchVmapMode, m) { heed::implement_all<&heed::in_vmap>(m); }
