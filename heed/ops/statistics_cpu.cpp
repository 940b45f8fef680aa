// attention_stats and attention_gradient_column_sums on the CPU: row statistics come with the
// forward, the others are sweeps of their own.
#include <optional>
#include <string>
#include <vector>

#include "heed/core/statistics.h"
#include "heed/ops/executor.h"
#include "heed/ops/kernels.h"
#include "heed/ops/operands.h"
#include "heed/ops/results.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Inputs;

// What the forward finds in passing.
template <class Real>
RowStatistics<Real> row_statistics(const std::vector<StatisticResults>& all) {
  RowStatistics<Real> rows;
  for (const auto& [statistic, tensors] : all) {
    switch (statistic.kind) {
      case Statistic::kEntropy:
        rows.entropy = mutable_data<Real>(tensors[0]);
        break;
      case Statistic::kMax:
        rows.max = mutable_data<Real>(tensors[0]);
        break;
      case Statistic::kTop:
        rows.top = statistic.number;
        rows.top_keys = mutable_data<int64_t>(tensors[0]);
        rows.top_weights = mutable_data<Real>(tensors[1]);
        break;
      default:
        break;
    }
  }
  return rows;
}

// What takes another sweep once lse is known.
template <class E>
void sweep(const StatisticResults& wanted, const AttentionInputs<E>& inputs, const RealOf<E>* lse,
           const RealOf<E>* row_weights, Executor& executor) {
  RealOf<E>* result = mutable_data<RealOf<E>>(wanted.tensors.back());
  const int64_t number = wanted.statistic.number;
  switch (wanted.statistic.kind) {
    case Statistic::kColumnSums:
      return column_sums(inputs, lse, row_weights, result, executor);
    case Statistic::kDiagonal:
      return diagonal(inputs, lse, number, result, executor);
    case Statistic::kBlocks:
      return block_means(inputs, lse, number, result, executor);
    default:
      return;
  }
}

Tensor dense_or_undefined(const OptionalTensor& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

std::vector<Tensor> stats(const OptionWords& words, const Tensor& q, const Tensor& k,
                          const Tensor& v, c10::List<std::string> want,
                          const OptionalTensor& row_weights) {
  const char* op = "attention_stats";
  const Inputs inputs{.q = q, .k = k, .v = v};
  const Tensor row_factors = dense_or_undefined(row_weights);
  const StatisticsResults results = statistics_results(op, words, inputs, want.vec(), row_factors);
  const Operands operands = operands_of(op, results.attention.checked, inputs);
  TorchExecutor executor;
  for_element(q, [&](auto zero) {
    using E = decltype(zero);
    using Real = RealOf<E>;
    const AttentionInputs<E> core = core_inputs<E>(operands);
    const AttentionOutputs<E> outputs{.out = mutable_view<E>(results.attention.out),
                                      .lse = mutable_data<Real>(results.attention.lse),
                                      .weights = {},
                                      .statistics = row_statistics<Real>(results.statistics)};
    attention_forward(core, outputs, executor);
    for (const StatisticResults& one : results.statistics) {
      sweep(one, core, outputs.lse, data_or_null<Real>(row_factors), executor);
    }
  });
  return results.tensors();
}

Tensor gradient_sums(const OptionWords& words, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Tensor& out, const Tensor& lse, const Tensor& d_out,
                     const OptionalTensor& row_weights) {
  const char* op = "attention_gradient_column_sums";
  const Inputs inputs{.q = q, .k = k, .v = v};
  const Tensor row_factors = dense_or_undefined(row_weights);
  const auto [checked, sums] =
      column_sums_results(op, words, inputs, {.out = out, .lse = lse, .d_out = d_out}, row_factors);
  const Operands operands = operands_of(op, checked, inputs);
  const Tensor out_rows = with_contiguous_rows(out), d_out_rows = with_contiguous_rows(d_out);
  const Tensor lse_dense = lse.contiguous();
  TorchExecutor executor;
  for_element(q, [&](auto zero) {
    using E = decltype(zero);
    using Real = RealOf<E>;
    const AttentionGradients<E> gradients{.out = const_view<E>(out_rows),
                                          .lse = data_or_null<Real>(lse_dense),
                                          .d_out = const_view<E>(d_out_rows)};
    gradient_column_sums(core_inputs<E>(operands), gradients, data_or_null<Real>(row_factors),
                         mutable_data<Real>(sums), executor);
  });
  return sums;
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, CPU, m) {
  m.impl("attention_stats", &heed::Kernel<&heed::stats>::call);
  m.impl("attention_gradient_column_sums", &heed::Kernel<&heed::gradient_sums>::call);
}
