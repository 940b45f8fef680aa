// The operators' CPU kernels: tensors in, views to heed/core, tensors out.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>

#include "heed/core/attention.h"
#include "heed/ops/checks.h"
#include "heed/ops/executor.h"
#include "heed/ops/layout.h"
#include "heed/ops/operators.h"

namespace heed {
namespace {

using at::Tensor;

double default_scale(Score score, int64_t D) {
  return score == Score::kDot && D > 0 ? 1.0 / std::sqrt(static_cast<double>(D)) : 1.0;
}

template <class Real>
const Real* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<Real>() : nullptr;
}

// The tensors as the core wants them, owned for as long as the views on them live.
struct Operands {
  Shape shape;
  AttentionOptions options;  // weight and kv_lengths dense
  Tensor q, k, v;            // contiguous rows
};

// v is undefined where only the weights are asked for.
Operands operands_of(const char* op, const SymShape& shape, const Tensor& q, const Tensor& k,
                     const Tensor& v, const AttentionOptions& options) {
  Operands operands{.shape = shape.concrete(),
                    .options = options,
                    .q = with_contiguous_rows(q),
                    .k = with_contiguous_rows(k),
                    .v = v.defined() ? with_contiguous_rows(v) : v};
  if (options.weight.defined()) operands.options.weight = options.weight.contiguous();
  if (options.kv_lengths.defined()) {
    check_lengths(op, options.kv_lengths, operands.shape.S);
    operands.options.kv_lengths = options.kv_lengths.contiguous();
  }
  return operands;
}

template <class Real>
AttentionInputs<Real> core_inputs(const Operands& operands) {
  const AttentionOptions& options = operands.options;
  const double scale = options.scale.value_or(default_scale(options.score, operands.shape.D));
  return {.shape = operands.shape,
          .score = options.score,
          .causal = options.causal,
          .scale = static_cast<Real>(scale),
          .q = const_view<Real>(operands.q),
          .k = const_view<Real>(operands.k),
          .v = operands.v.defined() ? const_view<Real>(operands.v) : View<const Real>{},
          .weight = data_or_null<Real>(options.weight),
          .kv_lengths = data_or_null<int64_t>(options.kv_lengths)};
}

// Calls body(Real()) with the type of `tensor`: float32 or float64, as the checks made sure.
template <class Body>
void for_real(const Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == at::kFloat) {
    body(float());
  } else {
    body(double());
  }
}

std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                   std::string_view kind, std::optional<std::string_view> causal,
                                   std::optional<double> scale, const std::optional<Tensor>& weight,
                                   const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention";
  const AttentionOptions options = parse_options(op, kind, causal, scale, weight, kv_lengths);
  const Operands operands = operands_of(op, check_inputs(op, q, k, v, options), q, k, v, options);
  const Shape& shape = operands.shape;
  Tensor out = empty_in_order_of(q, shape.Dv);
  Tensor lse = at::empty({shape.B, shape.H, shape.T}, q.options());
  TorchExecutor executor;
  for_real(q, [&](auto zero) {
    using Real = decltype(zero);
    const AttentionOutputs<Real> outputs{
        .out = mutable_view<Real>(out), .lse = lse.mutable_data_ptr<Real>(), .weights = {}};
    attention_forward(core_inputs<Real>(operands), outputs, executor);
  });
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
    const Tensor& d_out, const std::optional<Tensor>& d_lse, std::string_view kind,
    std::optional<std::string_view> causal, std::optional<double> scale,
    const std::optional<Tensor>& weight, const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention_backward";
  const AttentionOptions options = parse_options(op, kind, causal, scale, weight, kv_lengths);
  const SymShape checked = check_inputs(op, q, k, v, options);
  const Tensor d_lse_in = d_lse.value_or(Tensor());
  check_gradients(op, checked, q, {.out = out, .lse = lse, .d_out = d_out, .d_lse = d_lse_in});
  const Operands operands = operands_of(op, checked, q, k, v, options);
  const Shape& shape = operands.shape;

  const Tensor out_rows = with_contiguous_rows(out), d_out_rows = with_contiguous_rows(d_out);
  const Tensor lse_dense = lse.contiguous();
  const Tensor d_lse_dense = d_lse_in.defined() ? d_lse_in.contiguous() : d_lse_in;
  Tensor d_q = empty_in_order_of(q, shape.D);
  Tensor d_k = empty_in_order_of(k, shape.D);
  Tensor d_v = empty_in_order_of(v, shape.Dv);
  const bool additive = options.score == Score::kAdditive;
  Tensor d_weight =
      additive ? at::empty({shape.H, shape.D}, q.options()) : at::empty({0}, q.options());
  TorchExecutor executor;
  for_real(q, [&](auto zero) {
    using Real = decltype(zero);
    const AttentionGradients<Real> gradients{
        .out = const_view<Real>(out_rows),
        .lse = lse_dense.const_data_ptr<Real>(),
        .d_out = const_view<Real>(d_out_rows),
        .d_lse = data_or_null<Real>(d_lse_dense),
        .d_q = mutable_view<Real>(d_q),
        .d_k = mutable_view<Real>(d_k),
        .d_v = mutable_view<Real>(d_v),
        .d_weight = additive ? d_weight.mutable_data_ptr<Real>() : nullptr};
    attention_backward(core_inputs<Real>(operands), gradients, executor);
  });
  return {d_q, d_k, d_v, d_weight};
}

Tensor weights(const Tensor& q, const Tensor& k, std::string_view kind,
               std::optional<std::string_view> causal, std::optional<double> scale,
               const std::optional<Tensor>& weight, const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention_weights";
  const AttentionOptions options = parse_options(op, kind, causal, scale, weight, kv_lengths);
  const Operands operands =
      operands_of(op, check_scores(op, q, k, options), q, k, Tensor(), options);
  const Shape& shape = operands.shape;
  Tensor p = at::empty({shape.B, shape.H, shape.T, shape.S}, q.options());
  Tensor lse = at::empty({shape.B, shape.H, shape.T}, q.options());
  TorchExecutor executor;
  for_real(q, [&](auto zero) {
    using Real = decltype(zero);
    const AttentionOutputs<Real> outputs{
        .out = {}, .lse = lse.mutable_data_ptr<Real>(), .weights = mutable_view<Real>(p)};
    attention_forward(core_inputs<Real>(operands), outputs, executor);
  });
  return p;
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, CPU, m) {
  m.impl("attention", &heed::forward);
  m.impl("attention_backward", &heed::backward);
  m.impl("attention_weights", &heed::weights);
}
