// The operators' meta kernels: what is returned, without data.
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "heed/ops/kernels.h"
#include "heed/ops/results.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;

std::tuple<Tensor, Tensor> attend(const char* op, const OptionWords& words, const Inputs& inputs) {
  const auto [checked, out, lse] = attention_results(op, words, inputs);
  return {out, lse};
}

Gradients attend_backward(const char* op, const OptionWords& words, const Inputs& inputs,
                          const OutputGradients& outputs, const std::vector<bool>& wanted) {
  return backward_results(op, words, inputs, outputs, wanted, /*summed=*/std::nullopt).gradients;
}

Tensor weights(const OptionWords& words, const Tensor& q, const Tensor& k) {
  return weights_results("attention_weights", words, {.q = q, .k = k}).weights;
}

std::vector<Tensor> stats(const OptionWords& words, const Tensor& q, const Tensor& k,
                          const Tensor& v, c10::List<std::string> want,
                          const OptionalTensor& row_weights) {
  return statistics_results("attention_stats", words, {.q = q, .k = k, .v = v}, want.vec(),
                            row_weights.value_or(Tensor()))
      .tensors();
}

Tensor gradient_sums(const OptionWords& words, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Tensor& out, const Tensor& lse, const Tensor& d_out,
                     const OptionalTensor& row_weights) {
  return column_sums_results("attention_gradient_column_sums", words, {.q = q, .k = k, .v = v},
                             {.out = out, .lse = lse, .d_out = d_out},
                             row_weights.value_or(Tensor()))
      .sums;
}

void implement_all(torch::Library& m) {
  implement<&attend, &attend_backward>(m);
  m.impl("attention_weights", &Kernel<&weights>::call);
  m.impl("attention_stats", &Kernel<&stats>::call);
  m.impl("attention_gradient_column_sums", &Kernel<&gradient_sums>::call);
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Meta, m) { heed::implement_all(m); }

// Every device and layout that has no kernels: the checks refuse it, in a line.
TORCH_LIBRARY_IMPL(heed, CompositeExplicitAutograd, m) { heed::implement_all(m); }
