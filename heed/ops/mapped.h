// The operators over a mapped dimension, whichever of torch's vmaps mapped it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include <utility>

namespace heed {

// One level of mapping.
class Mapped {
 public:
  virtual ~Mapped() = default;
  virtual c10::SymInt size() const = 0;
  // The tensor under the wrapper with the mapped dimension in front, where it has one.
  virtual std::pair<at::Tensor, bool> unwrap(const at::Tensor& wrapped) const = 0;
  virtual at::Tensor wrap(const at::Tensor& tensor) const = 0;

  bool is_mapped(const c10::IValue& value) const;
};

// Calls the operator once, with the mapped dimension as part of B, where a call is the same for
// every element of a batch; else once for each. Something on the stack is mapped.
void call_mapped(const c10::OperatorHandle& op, torch::jit::Stack* stack, const Mapped& mapped);

template <void (*kernel)(const c10::OperatorHandle&, torch::jit::Stack*)>
void implement_all(torch::Library& m) {
  for (const char* name :
       {"attention", "varlen_attention", "attention_backward", "varlen_attention_backward",
        "attention_weights", "attention_stats", "attention_gradient_column_sums",
        "linear_attention", "linear_attention_backward"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<kernel>());
  }
}

}  // namespace heed
