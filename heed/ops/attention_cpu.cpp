// The operators' CPU kernels: tensors in, views to heed/core, tensors out.
#include <tuple>
#include <vector>

#include "heed/ops/executor.h"
#include "heed/ops/kernels.h"
#include "heed/ops/operands.h"
#include "heed/ops/results.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;

std::tuple<Tensor, Tensor> attend(const char* op, const OptionWords& words, const Inputs& inputs) {
  const auto [checked, out, lse] = attention_results(op, words, inputs);
  const Operands operands = operands_of(op, checked, inputs);
  TorchExecutor executor;
  for_element(out, [&](auto zero) {
    using E = decltype(zero);
    const AttentionOutputs<E> outputs{.out = mutable_view<E>(out),
                                      .lse = mutable_data<RealOf<E>>(lse)};
    attention_forward(core_inputs<E>(operands), outputs, executor);
  });
  return {out, lse};
}

// Where the core puts what it sums for a tensor of `gradients`; null: not wanted.
template <class Real>
Real* sum_or_null(const Tensor& gradient, bool wanted) {
  return wanted ? mutable_data<Real>(gradient) : nullptr;
}

// Runs the core; weight, sinks and tables are summed in float32 at least.
template <class E>
void differentiate(const Operands& operands, const OutputGradients& outputs,
                   const std::vector<bool>& wanted_tables, const Gradients& gradients) {
  using Real = RealOf<E>;
  std::vector<Real*> d_tables;
  for (size_t i = 0; i < wanted_tables.size(); ++i) {
    d_tables.push_back(sum_or_null<Real>(gradients.d_tables[i], wanted_tables[i]));
  }
  const AttentionOptions& options = operands.options;
  const AttentionGradients<E> core_gradients{
      .out = const_view<E>(outputs.out),
      .lse = data_or_null<Real>(outputs.lse),
      .d_out = const_view<E>(outputs.d_out),
      .d_lse = data_or_null<Real>(outputs.d_lse),
      .d_q = mutable_view<E>(gradients.d_q),
      .d_k = mutable_view<E>(gradients.d_k),
      .d_v = mutable_view<E>(gradients.d_v),
      .d_weight = sum_or_null<Real>(gradients.d_weight, options.weight.defined()),
      .d_sinks = sum_or_null<Real>(gradients.d_sinks, options.sinks.defined()),
      .d_tables = d_tables.empty() ? nullptr : d_tables.data()};
  TorchExecutor executor;
  attention_backward(core_inputs<E>(operands), core_gradients, executor);
}

Gradients attend_backward(const char* op, const OptionWords& words, const Inputs& inputs,
                          OutputGradients outputs, const std::vector<bool>& wanted_tables) {
  auto [checked, gradients] = backward_results(op, words, inputs, outputs, wanted_tables,
                                               /*summed=*/real_type(inputs.q));
  const Operands operands = operands_of(op, checked, inputs);
  outputs.out = with_contiguous_rows(outputs.out);
  outputs.d_out = with_contiguous_rows(outputs.d_out);
  outputs.lse = outputs.lse.contiguous();
  if (outputs.d_lse.defined()) outputs.d_lse = outputs.d_lse.contiguous();
  for_element(inputs.q, [&](auto zero) {
    differentiate<decltype(zero)>(operands, outputs, wanted_tables, gradients);
  });
  const at::ScalarType type = inputs.q.scalar_type();
  for (size_t i = 0; i < wanted_tables.size(); ++i) {
    if (!wanted_tables[i]) continue;
    gradients.d_tables[i] =
        gradients.d_tables[i].to(checked.options.program.tables[i].scalar_type());
  }
  gradients.d_weight = gradients.d_weight.to(type);
  gradients.d_sinks = gradients.d_sinks.to(type);
  return gradients;
}

Tensor weights(const OptionWords& words, const Tensor& q, const Tensor& k) {
  const char* op = "attention_weights";
  const Inputs inputs{.q = q, .k = k, .v = {}};
  const auto [checked, lse, p] = weights_results(op, words, inputs);
  const Operands operands = operands_of(op, checked, inputs);
  TorchExecutor executor;
  for_element(q, [&](auto zero) {
    using E = decltype(zero);
    using Real = RealOf<E>;
    const AttentionOutputs<E> outputs{
        .out = {}, .lse = mutable_data<Real>(lse), .weights = mutable_view<Real>(p)};
    attention_forward(core_inputs<E>(operands), outputs, executor);
  });
  return p;
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, CPU, m) {
  heed::implement<&heed::attend, &heed::attend_backward>(m);
  m.impl("attention_weights", &heed::Kernel<&heed::weights>::call);
}
