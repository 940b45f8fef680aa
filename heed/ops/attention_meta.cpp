// The operators' meta kernels: the same checks and the same memory order, no data.
#include <ATen/ops/empty.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "heed/ops/checks.h"
#include "heed/ops/kernels.h"
#include "heed/ops/layout.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;

std::tuple<Tensor, Tensor> attend(const char* op, const OptionWords& words, const Inputs& inputs) {
  const SymShape shape = check_inputs(op, inputs, parse_options(op, words));
  return {empty_in_order_of(inputs.q, shape.Dv), empty_lse(shape, inputs)};
}

Gradients attend_backward(const char* op, const OptionWords& words, const Inputs& inputs,
                          const OutputGradients& outputs, const std::vector<bool>& wanted) {
  const AttentionOptions options = parse_options(op, words);
  const SymShape shape = check_inputs(op, inputs, options);
  check_gradients(op, shape, inputs, options, outputs);
  check_derivative(op, wanted, options);
  return empty_gradients(shape, inputs, options, wanted, /*summed=*/std::nullopt);
}

Tensor weights(const OptionWords& words, const Tensor& q, const Tensor& k) {
  const char* op = "attention_weights";
  const SymShape shape = check_scores(op, {.q = q, .k = k}, parse_options(op, words));
  return at::empty_symint({shape.B, shape.H, shape.T, shape.S}, q.options().dtype(real_type(q)));
}

std::vector<Tensor> stats(const OptionWords& words, const Tensor& q, const Tensor& k,
                          const Tensor& v, c10::List<std::string> want,
                          const OptionalTensor& row_weights) {
  const char* op = "attention_stats";
  const Inputs inputs{.q = q, .k = k, .v = v};
  const SymShape shape = check_inputs(op, inputs, parse_options(op, words));
  check_row_weights(op, shape, q, row_weights.value_or(Tensor()));
  std::vector<Tensor> results = {empty_in_order_of(q, shape.Dv), empty_lse(shape, inputs)};
  for (const Statistic& one : parse_statistics(op, want.vec())) {
    for (const Tensor& result : empty_statistic(one, shape, q)) results.push_back(result);
  }
  return results;
}

Tensor gradient_sums(const OptionWords& words, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Tensor& out, const Tensor& lse, const Tensor& d_out,
                     const OptionalTensor& row_weights) {
  const char* op = "attention_gradient_column_sums";
  const AttentionOptions options = parse_options(op, words);
  const Inputs inputs{.q = q, .k = k, .v = v};
  const SymShape shape = check_inputs(op, inputs, options);
  check_gradients(op, shape, inputs, options, {.out = out, .lse = lse, .d_out = d_out});
  check_row_weights(op, shape, q, row_weights.value_or(Tensor()));
  return empty_statistic({Statistic::kColumnSums}, shape, q)[0];
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Meta, m) {
  heed::implement<&heed::attend, &heed::attend_backward>(m);
  m.impl("attention_weights", &heed::Kernel<&heed::weights>::call);
  m.impl("attention_stats", &heed::Kernel<&heed::stats>::call);
  m.impl("attention_gradient_column_sums", &heed::Kernel<&heed::gradient_sums>::call);
}
