// The operators' derivatives: attention has one, its backward has none and says so.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "heed/ops/checks.h"
#include "heed/ops/kernels.h"
#include "heed/ops/operands.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Whether a derivative is asked for; a forward-mode tangent counts, so that apply() refuses it
// aloud.
bool differentiates(at::TensorList inputs) {
  for (const Tensor& input : inputs) {
    if (at::GradMode::is_enabled() && input.requires_grad()) return true;
    if (input._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}

void add_defined(variable_list& list, std::initializer_list<Tensor> tensors) {
  for (const Tensor& tensor : tensors) {
    if (tensor.defined()) list.push_back(tensor);
  }
}

// What gradients flow to, in the order of the gradients that AttentionFunction gives.
variable_list leaves_of(const Inputs& inputs, const AttentionOptions& options) {
  variable_list leaves;
  add_defined(leaves, {inputs.q, inputs.k, inputs.v, options.weight, options.sinks});
  leaves.insert(leaves.end(), options.program.tables.begin(), options.program.tables.end());
  return leaves;
}

// All that the backward needs, as a context can keep it.
void save(AutogradContext* ctx, const Inputs& inputs, const AttentionOptions& options,
          const Tensor& out, const Tensor& lse) {
  variable_list tensors = {
      inputs.q, inputs.k,       inputs.v,           inputs.cu_seqlens_q, inputs.cu_seqlens_k, out,
      lse,      options.weight, options.kv_lengths, options.sinks,       options.drawn_seed};
  tensors.insert(tensors.end(), options.program.tables.begin(), options.program.tables.end());
  ctx->save_for_backward(std::move(tensors));
  auto& data = ctx->saved_data;
  data["score"] = static_cast<int64_t>(options.score);
  data["causal"] = static_cast<int64_t>(options.causal);
  data["window"] = std::vector<int64_t>{options.window.left, options.window.right};
  data["scale"] = options.scale;
  data["top_k"] = options.top_k;
  data["dropout_p"] = options.dropout_p;
  data["seed"] = options.seed;
  data["program"] = options.program.text;
}

struct Saved {
  Inputs inputs;
  AttentionOptions options;
  OutputGradients outputs;  // d_out and d_lse undefined
};

Saved saved_by(AutogradContext* ctx) {
  const variable_list tensors = ctx->get_saved_variables();
  auto& data = ctx->saved_data;
  const std::vector<int64_t> window = data["window"].toIntVector();
  return {.inputs = {.q = tensors[0],
                     .k = tensors[1],
                     .v = tensors[2],
                     .cu_seqlens_q = tensors[3],
                     .cu_seqlens_k = tensors[4]},
          .options = {.score = static_cast<Score>(data["score"].toInt()),
                      .program = {data["program"].toStringRef(),
                                  variable_list(tensors.begin() + 11, tensors.end())},
                      .causal = static_cast<Causal>(data["causal"].toInt()),
                      .window = {.left = window[0], .right = window[1]},
                      .scale = data["scale"].toOptional<double>(),
                      .weight = tensors[7],
                      .kv_lengths = tensors[8],
                      .sinks = tensors[9],
                      .top_k = data["top_k"].toInt(),
                      .dropout_p = data["dropout_p"].toDouble(),
                      .seed = data["seed"].toOptional<int64_t>(),
                      .drawn_seed = tensors[10]},
          .outputs = {.out = tensors[5], .lse = tensors[6], .d_out = {}}};
}

std::tuple<Tensor, Tensor> call_forward(const Inputs& inputs, const AttentionOptions& options) {
  return inputs.packed() ? operators::varlen_attention(inputs, options)
                         : operators::attention(inputs, options);
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static constexpr bool is_traceable = true;

  // `leaves` are what autograd sees of inputs and options.
  static variable_list forward(AutogradContext* ctx, at::TensorList /*leaves*/,
                               const Inputs& inputs, const AttentionOptions& options) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    auto [out, lse] = call_forward(inputs, options);
    ctx->set_materialize_grads(false);
    save(ctx, inputs, options, out, lse);
    return {out, lse};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    auto [inputs, options, outputs] = saved_by(ctx);
    const size_t leaves = leaves_of(inputs, options).size();
    const size_t others = 2;  // inputs and options, arguments of forward too
    if (!d_outputs[0].defined() && !d_outputs[1].defined()) return variable_list(leaves + others);
    outputs.d_out = d_outputs[0].defined() ? d_outputs[0] : at::zeros_like(outputs.out);
    outputs.d_lse = d_outputs[1];
    std::vector<bool> wanted_tables;
    for (size_t leaf = leaves - options.program.tables.size(); leaf < leaves; ++leaf) {
      wanted_tables.push_back(ctx->needs_input_grad(leaf));
    }
    const Gradients gradients =
        operators::attention_backward(inputs, outputs, wanted_tables, options);
    variable_list results = {gradients.d_q, gradients.d_k, gradients.d_v};
    if (options.weight.defined()) results.push_back(gradients.d_weight);
    if (options.sinks.defined()) results.push_back(gradients.d_sinks);
    for (size_t i = 0; i < wanted_tables.size(); ++i) {
      results.push_back(wanted_tables[i] ? gradients.d_tables[i] : Tensor());
    }
    results.resize(leaves + others);
    return results;
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

std::tuple<Tensor, Tensor> attend(const char* op, const OptionWords& words, Inputs inputs) {
  AttentionOptions options = parse_options(op, words);
  spell_out(op, inputs, options);
  const variable_list leaves = leaves_of(inputs, options);
  if (!differentiates(leaves)) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    return call_forward(inputs, options);
  }
  const variable_list outputs = AttentionFunction::apply(at::TensorList(leaves), inputs, options);
  return {outputs[0], outputs[1]};
}

Gradients attend_backward(const char* op, const OptionWords& words, const Inputs& inputs,
                          const OutputGradients& outputs, const std::vector<bool>& wanted_tables) {
  const AttentionOptions options = parse_options(op, words);
  Gradients gradients;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradients = operators::attention_backward(inputs, outputs, wanted_tables, options);
  }
  variable_list differentiable = leaves_of(inputs, options);
  add_defined(differentiable, {outputs.out, outputs.lse, outputs.d_out, outputs.d_lse});
  if (!differentiates(differentiable)) return gradients;
  auto& [d_q, d_k, d_v, d_weight, d_sinks, d_tables] = gradients;
  variable_list results = {d_q, d_k, d_v, d_weight, d_sinks};
  results.insert(results.end(), d_tables.begin(), d_tables.end());
  results = BackwardFunction::apply(at::TensorList(differentiable), results);
  return {.d_q = results[0],
          .d_k = results[1],
          .d_v = results[2],
          .d_weight = results[3],
          .d_sinks = results[4],
          .d_tables = variable_list(results.begin() + 5, results.end())};
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY_IMPL(heed, Autograd, m) {
  heed::implement<&heed::attend, &heed::attend_backward>(m);
  // For those who look: no gradient.
  for (const char* name :
       {"attention_weights", "attention_stats", "attention_gradient_column_sums"}) {
    m.impl(name, torch::CppFunction::makeFallthrough());
  }
}
