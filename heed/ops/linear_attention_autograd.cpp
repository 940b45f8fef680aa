// Derivatives of linear attention: the first by the engine; the second, and forward mode, by a
// formula with every weight stored.
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/matmul.h>
#include <torch/library.h>

#include <string>
#include <string_view>
#include <tuple>

#include "heed/ops/autograd.h"
#include "heed/ops/checks.h"
#include "heed/ops/linear_operators.h"

namespace heed {
namespace {

using at::Tensor;

// Features in which a row of queries, and all keys of a head, may be multiplied by a number: it
// cancels. So exp() can be kept from overflowing.
Tensor features(const Tensor& x, FeatureMap map, at::IntArrayRef cancelling) {
  switch (map) {
    case FeatureMap::kElu:
      return at::elu(x) + 1;
    case FeatureMap::kRelu:
      return x.relu();
    case FeatureMap::kExp:
      break;
  }
  if (x.sym_numel() == 0) return x.exp();
  return (x - x.detach().amax(cancelling, /*keepdim=*/true)).exp();
}

Tensor for_heads(const Tensor& x, const c10::SymInt& H) {
  return x.repeat_interleave_symint(H / x.sym_size(1), 1);
}

Tensor attend_by_formula(const variable_list& inputs, const LinearAttentionOptions& options) {
  const at::ScalarType real = real_type(inputs[0]);
  const c10::SymInt H = inputs[0].sym_size(1);
  if (H == 0) return at::matmul(inputs[0], inputs[1].transpose(2, 3)).matmul(inputs[2]);
  const Tensor q = features(inputs[0].to(real), options.feature_map, {-1});
  const Tensor k = features(inputs[1].to(real), options.feature_map, {-1, -2});
  Tensor weights = at::matmul(q, for_heads(k, H).transpose(2, 3));  // [B,H,T,S]
  if (options.causal) weights = weights.tril();
  const Tensor total = weights.sum(-1, /*keepdim=*/true);
  const Tensor divisor = total.masked_fill(total.eq(0), 1);
  return (at::matmul(weights, for_heads(inputs[2].to(real), H)) / divisor)
      .to(inputs[0].scalar_type());
}

Formula formula_of(const LinearAttentionOptions& options) {
  return [options](const variable_list& leaves) -> variable_list {
    return {attend_by_formula(leaves, options)};
  };
}

void save(AutogradContext* ctx, variable_list tensors, const LinearAttentionOptions& options) {
  ctx->save_for_backward(std::move(tensors));
  ctx->saved_data["feature_map"] = static_cast<int64_t>(options.feature_map);
  ctx->saved_data["causal"] = options.causal;
}

LinearAttentionOptions options_of(AutogradContext* ctx) {
  return {static_cast<FeatureMap>(ctx->saved_data["feature_map"].toInt()),
          ctx->saved_data["causal"].toBool()};
}

struct LinearAttentionDerivative : torch::autograd::Function<LinearAttentionDerivative> {
  static constexpr bool is_traceable = true;

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    const variable_list saved = ctx->get_saved_variables();
    if (!d_outputs[0].defined()) return variable_list(3);
    const auto [d_q, d_k, d_v] = operators::linear_attention_backward(
        saved[0], saved[1], saved[2], saved[3], d_outputs[0], options_of(ctx));
    return {d_q, d_k, d_v};
  }
};

// Gradients of q, k, v and d_out: out is a function of q, k and v.
struct LinearAttentionSecondDerivative
    : torch::autograd::Function<LinearAttentionSecondDerivative> {
  static constexpr bool is_traceable = true;

  static variable_list backward(AutogradContext* ctx, const variable_list& d_gradients) {
    const variable_list saved = ctx->get_saved_variables();
    return second_derivative(formula_of(options_of(ctx)), {saved[0], saved[1], saved[2]},
                             {saved[3]}, d_gradients);
  }
};

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
              bool causal) {
  const char* op = "linear_attention";
  const LinearAttentionOptions options = {parse_feature_map(op, feature_map), causal};
  const variable_list leaves = {q, k, v};
  if (has_tangent(leaves)) {
    check_inputs(op, {.q = q, .k = k, .v = v}, {});
    return attend_by_formula(leaves, options);
  }
  Tensor out;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    out = operators::linear_attention(q, k, v, options);
  }
  if (differentiates(leaves)) {
    record<LinearAttentionDerivative>(leaves, {out}, [&](AutogradContext* ctx) {
      save(ctx, {q, k, v, out}, options);
    });
  }
  return out;
}

std::tuple<Tensor, Tensor, Tensor> attend_backward(const Tensor& q, const Tensor& k,
                                                   const Tensor& v, const Tensor& out,
                                                   const Tensor& d_out,
                                                   std::string_view feature_map, bool causal) {
  const char* op = "linear_attention_backward";
  const LinearAttentionOptions options = {parse_feature_map(op, feature_map), causal};
  const variable_list leaves = {q, k, v, d_out};
  if (has_tangent(leaves)) {
    const variable_list found = derivative(formula_of(options), {q, k, v}, {d_out});
    return {found[0], found[1], found[2]};
  }
  std::tuple<Tensor, Tensor, Tensor> gradients;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradients = operators::linear_attention_backward(q, k, v, out, d_out, options);
  }
  if (differentiates(leaves)) {
    const auto& [d_q, d_k, d_v] = gradients;
    record<LinearAttentionSecondDerivative>(leaves, {d_q, d_k, d_v}, [&](AutogradContext* ctx) {
      save(ctx, {q, k, v, d_out}, options);
    });
  }
  return gradients;
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Autograd, m) {
  m.impl("linear_attention", &heed::attend);
  m.impl("linear_attention_backward", &heed::attend_backward);
}
