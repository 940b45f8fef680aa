// torch.autograd.grad(is_grads_batched=True) through the operators.
#include <ATen/LegacyBatchedTensorImpl.h>

#include <algorithm>

#include "heed/ops/boxed.h"
#include "heed/ops/mapped.h"

namespace heed {
namespace {

using at::Tensor;
using torch::jit::Stack;

// The innermost of torch's older vmap, which torch.autograd.grad(is_grads_batched=True) still uses.
class InnermostBatch final : public Mapped {
 public:
  explicit InnermostBatch(const BoxedCall& call) {
    for (size_t i = 0; i < call.count(); ++i) {
      if (!call.argument(i).isTensor()) continue;
      const auto* batched = at::maybeGetBatchedImpl(call.argument(i).toTensor());
      if (batched != nullptr) level_ = std::max(level_, batched->bdims().back().level());
    }
    for (size_t i = 0; i < call.count(); ++i) {
      if (!call.argument(i).isTensor()) continue;
      const auto [tensor, is_mapped] = unwrap(call.argument(i).toTensor());
      if (is_mapped) size_ = tensor.sym_size(0);
    }
  }

  c10::SymInt size() const override { return size_; }

  std::pair<Tensor, bool> unwrap(const Tensor& wrapped) const override {
    const auto* batched = wrapped.defined() ? at::maybeGetBatchedImpl(wrapped) : nullptr;
    if (batched == nullptr || batched->bdims().back().level() != level_) return {wrapped, false};
    const int64_t own = batched->bdims().back().dim();
    at::BatchDims others;
    for (const at::BatchDim& other : batched->bdims().slice(0, batched->bdims().size() - 1)) {
      others.emplace_back(other.level(), other.dim() + (other.dim() < own ? 1 : 0));
    }
    const Tensor tensor = batched->value().movedim(own, 0);
    return {others.empty() ? tensor : at::makeBatched(tensor, others), true};
  }

  Tensor wrap(const Tensor& tensor) const override {
    return at::addBatchDim(tensor, level_, /*dim=*/0);
  }

 private:
  int64_t level_ = 0;
  c10::SymInt size_ = 0;
};

void of_batches(const c10::OperatorHandle& op, Stack* stack) {
  call_mapped(op, stack, InnermostBatch(BoxedCall(op, *stack)));
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Batched, m) { heed::implement_all<&heed::of_batches>(m); }
