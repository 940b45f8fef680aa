// The operators' meta kernels: the same checks and the same memory order, no data.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "heed/ops/checks.h"
#include "heed/ops/layout.h"

namespace heed {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor> forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                   std::string_view kind, std::optional<std::string_view> causal,
                                   std::optional<double> scale, const std::optional<Tensor>& weight,
                                   const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention";
  const SymShape shape =
      check_inputs(op, q, k, v, parse_options(op, kind, causal, scale, weight, kv_lengths));
  return {empty_in_order_of(q, shape.Dv),
          at::empty_symint({shape.B, shape.H, shape.T}, q.options())};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
    const Tensor& d_out, const std::optional<Tensor>& d_lse, std::string_view kind,
    std::optional<std::string_view> causal, std::optional<double> scale,
    const std::optional<Tensor>& weight, const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention_backward";
  const AttentionOptions options = parse_options(op, kind, causal, scale, weight, kv_lengths);
  const SymShape shape = check_inputs(op, q, k, v, options);
  const Tensor d_lse_in = d_lse.value_or(Tensor());
  check_gradients(op, shape, q, {.out = out, .lse = lse, .d_out = d_out, .d_lse = d_lse_in});
  Tensor d_weight = options.score == Score::kAdditive
                        ? at::empty_symint({shape.H, shape.D}, q.options())
                        : at::empty({0}, q.options());
  return {empty_in_order_of(q, shape.D), empty_in_order_of(k, shape.D),
          empty_in_order_of(v, shape.Dv), d_weight};
}

Tensor weights(const Tensor& q, const Tensor& k, std::string_view kind,
               std::optional<std::string_view> causal, std::optional<double> scale,
               const std::optional<Tensor>& weight, const std::optional<Tensor>& kv_lengths) {
  const char* op = "attention_weights";
  const SymShape shape =
      check_scores(op, q, k, parse_options(op, kind, causal, scale, weight, kv_lengths));
  return at::empty_symint({shape.B, shape.H, shape.T, shape.S}, q.options());
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Meta, m) {
  m.impl("attention", &heed::forward);
  m.impl("attention_backward", &heed::backward);
  m.impl("attention_weights", &heed::weights);
}
