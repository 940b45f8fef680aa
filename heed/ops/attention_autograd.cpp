// The operators' derivatives: attention has one, its backward has none and says so.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

#include "heed/ops/checks.h"
#include "heed/ops/operators.h"

namespace heed {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Whether a derivative is asked for; a forward-mode tangent counts, so that apply() refuses it
// aloud.
bool differentiates(at::TensorList inputs) {
  for (const Tensor& input : inputs) {
    if (!input.defined()) continue;
    if (at::GradMode::is_enabled() && input.requires_grad()) return true;
    if (input._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}

std::optional<Tensor> optional(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

void save_options(AutogradContext* ctx, const AttentionOptions& options) {
  ctx->saved_data["score"] = static_cast<int64_t>(options.score);
  ctx->saved_data["causal"] = static_cast<int64_t>(options.causal);
  ctx->saved_data["scale"] = options.scale;
}

AttentionOptions saved_options(AutogradContext* ctx, const Tensor& weight,
                               const Tensor& kv_lengths) {
  return {.score = static_cast<Score>(ctx->saved_data["score"].toInt()),
          .causal = static_cast<Causal>(ctx->saved_data["causal"].toInt()),
          .scale = ctx->saved_data["scale"].toOptional<double>(),
          .weight = weight,
          .kv_lengths = kv_lengths};
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static constexpr bool is_traceable = true;

  static variable_list forward(AutogradContext* ctx, const Tensor& q, const Tensor& k,
                               const Tensor& v, const std::optional<Tensor>& weight,
                               const AttentionOptions& options) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [out, lse] = operators::attention(q, k, v, options);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({q, k, v, out, lse, weight.value_or(Tensor()), options.kv_lengths});
    save_options(ctx, options);
    return {out, lse};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    if (!d_outputs[0].defined() && !d_outputs[1].defined()) return variable_list(5);
    const variable_list saved = ctx->get_saved_variables();
    const Tensor d_out = d_outputs[0].defined() ? d_outputs[0] : at::zeros_like(saved[3]);
    const AttentionOptions options = saved_options(ctx, saved[5], saved[6]);
    auto [d_q, d_k, d_v, d_weight] = operators::attention_backward({.q = saved[0],
                                                                    .k = saved[1],
                                                                    .v = saved[2],
                                                                    .out = saved[3],
                                                                    .lse = saved[4],
                                                                    .d_out = d_out,
                                                                    .d_lse = d_outputs[1]},
                                                                   options);
    if (options.score != Score::kAdditive) d_weight = Tensor();
    return {d_q, d_k, d_v, d_weight, Tensor()};
  }
};

// Without this, torch would only warn about a second derivative and give none.
struct BackwardFunction : torch::autograd::Function<BackwardFunction> {
  static variable_list forward(AutogradContext*, at::TensorList /*inputs*/,
                               const variable_list& gradients) {
    return gradients;
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "[attention] has no second derivative");
  }
};

std::tuple<Tensor, Tensor> traced_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                            std::string_view kind,
                                            std::optional<std::string_view> causal,
                                            std::optional<double> scale,
                                            const std::optional<Tensor>& weight,
                                            const std::optional<Tensor>& kv_lengths) {
  const AttentionOptions options =
      parse_options("attention", kind, causal, scale, weight, kv_lengths);
  if (!differentiates({q, k, v, options.weight})) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    return operators::attention(q, k, v, options);
  }
  const variable_list outputs =
      AttentionFunction::apply(q, k, v, optional(options.weight), options);
  return {outputs[0], outputs[1]};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> traced_backward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
    const Tensor& d_out, const std::optional<Tensor>& d_lse, std::string_view kind,
    std::optional<std::string_view> causal, std::optional<double> scale,
    const std::optional<Tensor>& weight, const std::optional<Tensor>& kv_lengths) {
  const AttentionOptions options =
      parse_options("attention_backward", kind, causal, scale, weight, kv_lengths);
  const operators::BackwardInputs inputs{.q = q,
                                         .k = k,
                                         .v = v,
                                         .out = out,
                                         .lse = lse,
                                         .d_out = d_out,
                                         .d_lse = d_lse.value_or(Tensor())};
  variable_list gradients;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [d_q, d_k, d_v, d_weight] = operators::attention_backward(inputs, options);
    gradients = {d_q, d_k, d_v, d_weight};
  }
  variable_list differentiable = {q, k, v, out, lse, d_out};
  if (inputs.d_lse.defined()) differentiable.push_back(inputs.d_lse);
  if (options.weight.defined()) differentiable.push_back(options.weight);
  if (differentiates(differentiable)) {
    gradients = BackwardFunction::apply(at::TensorList(differentiable), gradients);
  }
  return {gradients[0], gradients[1], gradients[2], gradients[3]};
}

Tensor untraced_weights(const Tensor& q, const Tensor& k, std::string_view kind,
                        std::optional<std::string_view> causal, std::optional<double> scale,
                        const std::optional<Tensor>& weight,
                        const std::optional<Tensor>& kv_lengths) {
  const AttentionOptions options =
      parse_options("attention_weights", kind, causal, scale, weight, kv_lengths);
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return operators::attention_weights(q, k, options);
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Autograd, m) {
  m.impl("attention", &heed::traced_attention);
  m.impl("attention_backward", &heed::traced_backward);
  m.impl("attention_weights", &heed::untraced_weights);
}
