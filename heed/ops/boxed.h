// Arguments of a boxed call, found by their schema's names: for kernels that serve several
// operators.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace heed {

class BoxedCall {
 public:
  BoxedCall(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op), stack_(stack), first_(stack.size() - op.schema().arguments().size()) {}

  size_t count() const { return op_.schema().arguments().size(); }
  const std::string& name(size_t i) const { return op_.schema().arguments()[i].name(); }
  c10::IValue& argument(size_t i) const { return stack_[first_ + i]; }

  // Null where the operator has no such argument, or it is None.
  c10::IValue* find(std::string_view wanted) const {
    for (size_t i = 0; i < count(); ++i) {
      if (name(i) == wanted) return argument(i).isNone() ? nullptr : &argument(i);
    }
    return nullptr;
  }

 private:
  const c10::OperatorHandle& op_;
  torch::jit::Stack& stack_;
  const size_t first_;
};

inline bool is_among(std::string_view word, std::initializer_list<std::string_view> words) {
  for (const std::string_view each : words) {
    if (word == each) return true;
  }
  return false;
}

}  // namespace heed
