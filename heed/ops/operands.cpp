// From the operators' arguments to the core's: copies only where rows are not contiguous.
#include "heed/ops/operands.h"

#include <ATen/ops/randint.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "heed/core/band.h"
#include "heed/ops/unit_rows.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Inputs;

int64_t longest(const Tensor& offsets) {
  const int64_t* values = offsets.const_data_ptr<int64_t>();
  int64_t length = 0;
  for (int64_t b = 1; b < offsets.numel(); ++b) {
    length = std::max(length, values[b] - values[b - 1]);
  }
  return length;
}

Tensor dense_offsets(const char* op, const char* name, const Tensor& offsets, int64_t total) {
  const Tensor dense = offsets.to(at::kLong).contiguous();
  check_offsets(op, name, dense, total);
  return dense;
}

void make_dense(Tensor& tensor) {
  if (tensor.defined()) tensor = tensor.contiguous();
}

// The widest band of any element, from their own lengths.
program::Sizes sizes_of(const AttentionInputs<float>& rules) {
  const Shape& shape = rules.shape;
  program::Sizes sizes{.B = shape.B, .H = shape.H, .T = shape.T, .S = shape.S};
  for (int64_t b = 0; b < shape.B; ++b) {
    const Band band = band_of(rules, b);
    sizes.left = b == 0 ? band.left : std::min(sizes.left, band.left);
    sizes.right = b == 0 ? band.right : std::max(sizes.right, band.right);
  }
  return sizes;
}

}  // namespace

void draw_seed(AttentionOptions& options) {
  if (options.dropout_p > 0 && !options.seed && !options.drawn_seed.defined()) {
    options.drawn_seed = at::randint(std::numeric_limits<int64_t>::max(), {}, at::kLong);
  }
}

void spell_out(const char* op, Inputs& inputs, AttentionOptions& options) {
  if (options.cosine) {
    check_scores(op, inputs, options);
    inputs.q = unit_rows(inputs.q);
    inputs.k = unit_rows(inputs.k);
    options.cosine = false;
    options.scale = options.scale.value_or(1.0);
  }
  draw_seed(options);
}

Operands operands_of(const char* op, const Checked& checked, Inputs inputs) {
  AttentionOptions options = checked.options;
  spell_out(op, inputs, options);
  Operands operands{.shape = checked.shape.concrete()};
  Shape& shape = operands.shape;
  inputs.q = with_contiguous_rows(inputs.q);
  inputs.k = with_contiguous_rows(inputs.k);
  if (inputs.v.defined()) inputs.v = with_contiguous_rows(inputs.v);
  if (inputs.packed()) {
    inputs.cu_seqlens_q = dense_offsets(op, "cu_seqlens_q", inputs.cu_seqlens_q, shape.T);
    inputs.cu_seqlens_k = dense_offsets(op, "cu_seqlens_k", inputs.cu_seqlens_k, shape.S);
    shape.T = longest(inputs.cu_seqlens_q);
    shape.S = longest(inputs.cu_seqlens_k);
  }
  if (options.kv_lengths.defined()) check_lengths(op, options.kv_lengths, shape.S);
  make_dense(options.weight);
  make_dense(options.kv_lengths);
  make_dense(options.sinks);
  const int64_t seed =
      options.drawn_seed.defined() ? options.drawn_seed.item<int64_t>() : options.seed.value_or(0);
  operands.dropout = {.p = options.dropout_p, .seed = static_cast<uint64_t>(seed)};
  operands.inputs = std::move(inputs);
  operands.options = std::move(options);
  operands.program = bind(operands.options.program, sizes_of(core_inputs<float>(operands)));
  return operands;
}

}  // namespace heed
