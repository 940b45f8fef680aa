// The one place where an operator's arguments are checked and its options read.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <cstdint>
#include <string>
#include <vector>

#include "heed/core/view.h"
#include "heed/ops/arguments.h"
#include "heed/ops/attention.h"
#include "heed/ops/operators.h"
#include "heed/ops/options.h"

namespace heed {

// Shape as the checks find it: symbolic while torch.compile or torch.export traces. Of packed
// sequences, T and S are the totals.
struct SymShape {
  c10::SymInt B, H, Hkv, T, S, D, Dv;
  Shape concrete() const;
};

// What lse, and all that is summed, is given in: float64 for float64, float32 for every other.
at::ScalarType real_type(const at::Tensor& q);

// The schema's words, checked.
AttentionOptions parse_options(const char* op, const OptionWords& words);

// Checks dtypes, devices and sizes of everything that gives the scores; the result's Dv is 0.
SymShape check_scores(const char* op, const operators::Inputs& inputs,
                      const AttentionOptions& options);

// The same, and the values.
SymShape check_inputs(const char* op, const operators::Inputs& inputs,
                      const AttentionOptions& options);

// A tensor in the shape and type of out; of lse.
void check_out(Argument argument, const at::Tensor& tensor, const SymShape& shape,
               const operators::Inputs& inputs);
void check_lse(Argument argument, const at::Tensor& tensor, const SymShape& shape,
               const operators::Inputs& inputs);

// Checks what the backward takes besides.
void check_gradients(const char* op, const SymShape& shape, const operators::Inputs& inputs,
                     const AttentionOptions& options, const operators::OutputGradients& gradients);
// What the backward gives: gradients of floating-point tables; that of "cosine" is autograd's.
void check_derivative(const char* op, const std::vector<bool>& wanted_tables,
                      const AttentionOptions& options);

void check_row_weights(const char* op, const SymShape& shape, const at::Tensor& q,
                       const at::Tensor& row_weights);

// A statistic of attention_stats, "top:8" for instance.
struct Statistic {
  enum Kind { kEntropy, kMax, kTop, kColumnSums, kDiagonal, kBlocks } kind;
  int64_t number = 0;  // of top, diagonal, blocks
};
std::vector<Statistic> parse_statistics(const char* op, const std::vector<std::string>& want);

// Checks of values, so not for meta tensors: lengths in [0, S]; offsets that rise from 0 to total.
void check_lengths(const char* op, const at::Tensor& kv_lengths, int64_t S);
void check_offsets(const char* op, const char* name, const at::Tensor& offsets, int64_t total);

}  // namespace heed
