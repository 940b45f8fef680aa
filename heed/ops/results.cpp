// Shapes, types and memory order of everything that is returned.
#include "heed/ops/results.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "heed/ops/layout.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;

Checked checked(const char* op, const OptionWords& words, const Inputs& inputs) {
  Checked result{.options = parse_options(op, words), .shape = {}};
  result.shape = check_inputs(op, inputs, result.options);
  return result;
}

at::TensorOptions real(const Tensor& q) { return q.options().dtype(real_type(q)); }

Tensor empty_lse(const SymShape& shape, const Inputs& inputs) {
  if (inputs.packed()) return at::empty_symint({shape.H, shape.T}, real(inputs.q));
  return at::empty_symint({shape.B, shape.H, shape.T}, real(inputs.q));
}

std::vector<Tensor> empty_statistic(const Statistic& statistic, const SymShape& shape,
                                    const Tensor& q) {
  const auto& [B, H, Hkv, T, S, D, Dv] = shape;
  const c10::SymInt n = statistic.number;
  switch (statistic.kind) {
    case Statistic::kTop:
      return {at::empty_symint({B, H, T, n}, q.options().dtype(at::kLong)),
              at::empty_symint({B, H, T, n}, real(q))};
    case Statistic::kColumnSums:
      return {at::empty_symint({B, H, S}, real(q))};
    case Statistic::kBlocks:
      return {at::empty_symint({B, H, (T + n - 1) / n, (S + n - 1) / n}, real(q))};
    case Statistic::kEntropy:
    case Statistic::kMax:
    case Statistic::kDiagonal:
      break;
  }
  return {at::empty_symint({B, H, T}, real(q))};
}

Gradients empty_gradients(const SymShape& shape, const Inputs& inputs,
                          const AttentionOptions& options, const std::vector<bool>& wanted_tables,
                          std::optional<at::ScalarType> summed) {
  const auto gradient_of = [&](const Tensor& tensor, bool wanted) {
    if (!wanted) return at::empty({0}, inputs.q.options());
    const at::ScalarType type = summed.value_or(tensor.scalar_type());
    return at::empty_symint(tensor.sym_sizes(), tensor.options().dtype(type));
  };
  Gradients gradients{.d_q = empty_in_order_of(inputs.q, shape.D),
                      .d_k = empty_in_order_of(inputs.k, shape.D),
                      .d_v = empty_in_order_of(inputs.v, shape.Dv),
                      .d_weight = gradient_of(options.weight, options.weight.defined()),
                      .d_sinks = gradient_of(options.sinks, options.sinks.defined()),
                      .d_tables = {}};
  for (size_t i = 0; i < options.program.tables.size(); ++i) {
    const bool wanted = i < wanted_tables.size() && wanted_tables[i];
    gradients.d_tables.push_back(gradient_of(options.program.tables[i], wanted));
  }
  return gradients;
}

}  // namespace

AttentionResults attention_results(const char* op, const OptionWords& words, const Inputs& inputs) {
  const Checked found = checked(op, words, inputs);
  return {.checked = found,
          .out = empty_in_order_of(inputs.q, found.shape.Dv),
          .lse = empty_lse(found.shape, inputs)};
}

BackwardResults backward_results(const char* op, const OptionWords& words, const Inputs& inputs,
                                 const OutputGradients& outputs,
                                 const std::vector<bool>& wanted_tables,
                                 std::optional<at::ScalarType> summed) {
  const Checked found = checked(op, words, inputs);
  const auto& [options, shape] = found;
  check_gradients(op, shape, inputs, options, outputs);
  check_derivative(op, wanted_tables, options);
  return {.checked = found,
          .gradients = empty_gradients(shape, inputs, options, wanted_tables, summed)};
}

WeightsResults weights_results(const char* op, const OptionWords& words, const Inputs& inputs) {
  Checked found{.options = parse_options(op, words), .shape = {}};
  found.shape = check_scores(op, inputs, found.options);
  const auto& [B, H, Hkv, T, S, D, Dv] = found.shape;
  return {.checked = found,
          .lse = empty_lse(found.shape, inputs),
          .weights = at::empty_symint({B, H, T, S}, real(inputs.q))};
}

StatisticsResults statistics_results(const char* op, const OptionWords& words, const Inputs& inputs,
                                     const std::vector<std::string>& want,
                                     const Tensor& row_weights) {
  StatisticsResults results{attention_results(op, words, inputs), {}};
  const SymShape& shape = results.attention.checked.shape;
  check_row_weights(op, shape, inputs.q, row_weights);
  for (const Statistic& one : parse_statistics(op, want)) {
    results.statistics.push_back({one, empty_statistic(one, shape, inputs.q)});
  }
  return results;
}

std::vector<Tensor> StatisticsResults::tensors() const {
  std::vector<Tensor> all = {attention.out, attention.lse};
  for (const StatisticResults& one : statistics) {
    all.insert(all.end(), one.tensors.begin(), one.tensors.end());
  }
  return all;
}

ColumnSumsResults column_sums_results(const char* op, const OptionWords& words,
                                      const Inputs& inputs, const OutputGradients& outputs,
                                      const Tensor& row_weights) {
  const Checked found = checked(op, words, inputs);
  check_gradients(op, found.shape, inputs, found.options, outputs);
  check_row_weights(op, found.shape, inputs.q, row_weights);
  return {.checked = found,
          .sums = empty_statistic({Statistic::kColumnSums}, found.shape, inputs.q)[0]};
}

}  // namespace heed
