// What the operators return, allocated when their arguments have been checked: all that a meta
// kernel does, and how a CPU kernel begins.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "heed/ops/checks.h"
#include "heed/ops/operators.h"
#include "heed/ops/options.h"

namespace heed {

struct Checked {
  AttentionOptions options;
  SymShape shape;
};

struct AttentionResults {
  Checked checked;
  at::Tensor out, lse;
};
AttentionResults attention_results(const char* op, const OptionWords& words,
                                   const operators::Inputs& inputs);

struct BackwardResults {
  Checked checked;
  operators::Gradients gradients;
};
// What is summed over queries (weight, sinks, tables) in `summed`, or in the argument's own type
// where that is none.
BackwardResults backward_results(const char* op, const OptionWords& words,
                                 const operators::Inputs& inputs,
                                 const operators::OutputGradients& outputs,
                                 const std::vector<bool>& wanted_tables,
                                 std::optional<at::ScalarType> summed);

struct WeightsResults {
  Checked checked;
  at::Tensor lse, weights;
};
WeightsResults weights_results(const char* op, const OptionWords& words,
                               const operators::Inputs& inputs);

struct StatisticResults {
  Statistic statistic;
  std::vector<at::Tensor> tensors;  // two for "top:n", else one
};
struct StatisticsResults {
  AttentionResults attention;
  std::vector<StatisticResults> statistics;

  std::vector<at::Tensor> tensors() const;  // all, in order
};
StatisticsResults statistics_results(const char* op, const OptionWords& words,
                                     const operators::Inputs& inputs,
                                     const std::vector<std::string>& want,
                                     const at::Tensor& row_weights);

struct ColumnSumsResults {
  Checked checked;
  at::Tensor sums;
};
ColumnSumsResults column_sums_results(const char* op, const OptionWords& words,
                                      const operators::Inputs& inputs,
                                      const operators::OutputGradients& outputs,
                                      const at::Tensor& row_weights);

}  // namespace heed
