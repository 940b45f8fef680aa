// A mapped dimension: part of B where a call is the same for every element of a batch, else one
// call follows the other.
#include "heed/ops/mapped.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heed/ops/boxed.h"
#include "heed/ops/score_program.h"

namespace heed {
namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

// f(tensor) for each tensor in the value.
template <class F>
IValue transformed(const IValue& value, const F& f) {
  if (value.isTensor() && value.toTensor().defined()) return f(value.toTensor());
  if (!value.isTensorList()) return value;
  std::vector<Tensor> results;
  for (const Tensor& tensor : value.toTensorVector()) results.push_back(f(tensor));
  return results;
}

// ---- One call

bool begins_with_batch(std::string_view name) {
  return is_among(name,
                  {"q", "k", "v", "kv_lengths", "out", "lse", "d_out", "d_lse", "row_weights"});
}

bool reads_batch_index(const std::string& text) {
  const auto program = parse(TensorProgram(text, {}));
  for (int id = 0; id < program->graph().size(); ++id) {
    if (program->graph()[id].op == program::Op::kBatch) return true;
  }
  return false;
}

// Whether the backward sums something over the batch.
bool sums_over_batch(const BoxedCall& call) {
  const IValue* wanted = call.find("wanted_tables");
  bool tables = false;
  if (wanted != nullptr) {
    for (const bool each : wanted->toBoolList()) tables = tables || each;
  }
  return tables || call.find("weight") != nullptr || call.find("sinks") != nullptr;
}

bool is_one_call(const c10::OperatorHandle& op, const BoxedCall& call, const Mapped& mapped) {
  for (size_t i = 0; i < call.count(); ++i) {
    const bool is_mapped = mapped.is_mapped(call.argument(i));
    if (is_mapped && !begins_with_batch(call.name(i))) return false;
  }
  if (call.find("cu_seqlens_q") != nullptr) return false;
  const IValue* dropout_p = call.find("dropout_p");
  if (dropout_p != nullptr && dropout_p->toDouble() > 0) return false;
  const bool is_backward = op.schema().name() == "heed::attention_backward";
  if (is_backward && sums_over_batch(call)) return false;
  const IValue* program = call.find("program");
  return program == nullptr || program->toStringRef().empty() ||
         !reads_batch_index(program->toStringRef());
}

void call_once(const c10::OperatorHandle& op, Stack* stack, const Mapped& mapped) {
  const c10::SymInt N = mapped.size();
  const BoxedCall call(op, *stack);
  for (size_t i = 0; i < call.count(); ++i) {
    if (!begins_with_batch(call.name(i))) continue;
    call.argument(i) = transformed(call.argument(i), [&](const Tensor& wrapped) {
      auto [tensor, is_mapped] = mapped.unwrap(wrapped);
      if (!is_mapped) {
        c10::SymDimVector sizes(tensor.sym_sizes());
        sizes.insert(sizes.begin(), N);
        tensor = tensor.expand_symint(sizes);
      }
      return tensor.flatten(0, 1);  // [N*B,...]
    });
  }
  op.callBoxed(stack);
  for (IValue& result : *stack) {
    result = transformed(result, [&](const Tensor& tensor) {
      if (tensor.dim() < 3) return tensor;  // [0]: a gradient that is not wanted
      return mapped.wrap(tensor.unflatten_symint(0, {N, tensor.sym_size(0) / N}));
    });
  }
}

// ---- One call after the other

void call_each(const c10::OperatorHandle& op, Stack* stack, const Mapped& mapped) {
  const int64_t N = mapped.size().guard_int(__FILE__, __LINE__);
  std::vector<Stack> results;
  for (int64_t n = 0; n < N; ++n) {
    Stack one;
    for (const IValue& argument : *stack) {
      one.push_back(transformed(argument, [&](const Tensor& wrapped) {
        const auto [tensor, is_mapped] = mapped.unwrap(wrapped);
        return is_mapped ? tensor.select(0, n) : tensor;
      }));
    }
    op.callBoxed(&one);
    results.push_back(std::move(one));
  }
  stack->clear();
  for (size_t i = 0; i < results[0].size(); ++i) {
    size_t place = 0;  // in a list
    stack->push_back(transformed(results[0][i], [&](const Tensor&) {
      std::vector<Tensor> all;
      for (const Stack& one : results) {
        all.push_back(one[i].isTensor() ? one[i].toTensor() : one[i].toTensorVector()[place]);
      }
      ++place;
      return mapped.wrap(at::stack(all));
    }));
  }
}

// A stack holds the arguments of this call alone.
template <class Call>
void with_own_stack(const c10::OperatorHandle& op, Stack* stack, const Call& call) {
  const auto first = stack->end() - static_cast<int64_t>(op.schema().arguments().size());
  Stack own(std::make_move_iterator(first), std::make_move_iterator(stack->end()));
  stack->erase(first, stack->end());
  call(&own);
  stack->insert(stack->end(), std::make_move_iterator(own.begin()),
                std::make_move_iterator(own.end()));
}

}  // namespace

bool Mapped::is_mapped(const IValue& value) const {
  if (value.isTensor()) return unwrap(value.toTensor()).second;
  if (!value.isTensorList()) return false;
  const std::vector<Tensor> tensors = value.toTensorVector();
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const Tensor& tensor) { return unwrap(tensor).second; });
}

void call_mapped(const c10::OperatorHandle& op, Stack* stack, const Mapped& mapped) {
  TORCH_CHECK(mapped.size() > 0, "[vmap] ", op.schema().name(), ": expected at least one element");
  with_own_stack(op, stack, [&](Stack* own) {
    if (is_one_call(op, BoxedCall(op, *own), mapped)) return call_once(op, own, mapped);
    call_each(op, own, mapped);
  });
}

}  // namespace heed
