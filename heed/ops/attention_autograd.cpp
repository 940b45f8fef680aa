// The operators' derivatives: the first by the engine; the second, and forward mode, by the formula
// with every score stored.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "heed/ops/attention_formula.h"
#include "heed/ops/autograd.h"
#include "heed/ops/checks.h"
#include "heed/ops/kernels.h"
#include "heed/ops/operands.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Gradients;
using operators::Inputs;
using operators::OutputGradients;

// What gradients flow to, in the order of Gradients.
variable_list leaves_of(const Inputs& inputs, const AttentionOptions& options) {
  variable_list leaves = {inputs.q, inputs.k, inputs.v, options.weight, options.sinks};
  leaves.insert(leaves.end(), options.program.tables.begin(), options.program.tables.end());
  return leaves;
}
constexpr size_t kTables = 5;  // where they begin

variable_list flat(const Gradients& gradients) {
  const auto& [d_q, d_k, d_v, d_weight, d_sinks, d_tables] = gradients;
  variable_list list = {d_q, d_k, d_v, d_weight, d_sinks};
  list.insert(list.end(), d_tables.begin(), d_tables.end());
  return list;
}

// The formula of (out, lse) by the leaves.
Formula formula_of(const Inputs& inputs, const AttentionOptions& options) {
  return
      [inputs = inputs, options = options](const variable_list& leaves) mutable -> variable_list {
        inputs.q = leaves[0];
        inputs.k = leaves[1];
        inputs.v = leaves[2];
        options.weight = leaves[3];
        options.sinks = leaves[4];
        options.program.tables.assign(leaves.begin() + kTables, leaves.end());
        const auto [out, lse] = attention_formula(inputs, options);
        return {out, lse};
      };
}

// All that a derivative needs, as a context can keep it.
void save(AutogradContext* ctx, const Inputs& inputs, const AttentionOptions& options,
          const OutputGradients& outputs) {
  variable_list tensors = {
      inputs.q,       inputs.k,      inputs.v,          inputs.cu_seqlens_q, inputs.cu_seqlens_k,
      outputs.out,    outputs.lse,   outputs.d_out,     outputs.d_lse,       options.kv_lengths,
      options.weight, options.sinks, options.drawn_seed};
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
  OutputGradients outputs;
};

Saved saved_by(AutogradContext* ctx) {
  const variable_list tensors = ctx->get_saved_variables();
  auto& data = ctx->saved_data;
  const std::vector<int64_t> window = data["window"].toIntVector();
  return {
      .inputs = {.q = tensors[0],
                 .k = tensors[1],
                 .v = tensors[2],
                 .cu_seqlens_q = tensors[3],
                 .cu_seqlens_k = tensors[4]},
      .options = {.score = static_cast<Score>(data["score"].toInt()),
                  .program = {data["program"].toStringRef(),
                              variable_list(tensors.begin() + 13, tensors.end())},
                  .causal = static_cast<Causal>(data["causal"].toInt()),
                  .window = {.left = window[0], .right = window[1]},
                  .scale = data["scale"].toOptional<double>(),
                  .weight = tensors[10],
                  .kv_lengths = tensors[9],
                  .sinks = tensors[11],
                  .top_k = data["top_k"].toInt(),
                  .dropout_p = data["dropout_p"].toDouble(),
                  .seed = data["seed"].toOptional<int64_t>(),
                  .drawn_seed = tensors[12]},
      .outputs = {.out = tensors[5], .lse = tensors[6], .d_out = tensors[7], .d_lse = tensors[8]}};
}

// Gradients of leaves.
struct AttentionDerivative : torch::autograd::Function<AttentionDerivative> {
  static constexpr bool is_traceable = true;

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    auto [inputs, options, outputs] = saved_by(ctx);
    const size_t tables = options.program.tables.size();
    if (!d_outputs[0].defined() && !d_outputs[1].defined()) return variable_list(kTables + tables);
    outputs.d_out = d_outputs[0].defined() ? d_outputs[0] : at::zeros_like(outputs.out);
    outputs.d_lse = d_outputs[1];
    std::vector<bool> wanted;
    for (size_t i = 0; i < tables; ++i) wanted.push_back(ctx->needs_input_grad(kTables + i));
    variable_list results = flat(operators::attention_backward(inputs, outputs, wanted, options));
    if (!options.weight.defined()) results[3] = Tensor();
    if (!options.sinks.defined()) results[4] = Tensor();
    for (size_t i = 0; i < tables; ++i) {
      if (!wanted[i]) results[kTables + i] = Tensor();
    }
    return results;
  }
};

// Gradients of leaves, d_out and d_lse: out and lse are functions of the leaves.
struct SecondDerivative : torch::autograd::Function<SecondDerivative> {
  static constexpr bool is_traceable = true;

  static variable_list backward(AutogradContext* ctx, const variable_list& d_gradients) {
    const auto [inputs, options, outputs] = saved_by(ctx);
    return second_derivative(formula_of(inputs, options), leaves_of(inputs, options),
                             {outputs.d_out, outputs.d_lse}, d_gradients);
  }
};

// Whether autograd has nothing to do, and nothing is to be said in other operations: most calls of
// a model that is used, not trained.
bool is_plain(const OptionWords& words, const Inputs& inputs) {
  if (words.kind == "cosine" || words.dropout_p != 0) return false;
  if (words.weight || words.sinks || (words.tables && !words.tables->empty())) return false;
  for (const Tensor* input : {&inputs.q, &inputs.k, &inputs.v}) {
    if (at::GradMode::is_enabled() && input->requires_grad()) return false;
    if (input->_fw_grad(/*level=*/0).defined()) return false;
  }
  return true;
}

std::tuple<Tensor, Tensor> attend(const char* op, const OptionWords& words, Inputs inputs) {
  if (is_plain(words, inputs)) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    return operators::attention(inputs, words);
  }
  AttentionOptions options = parse_options(op, words);
  if (has_tangent(leaves_of(inputs, options))) {
    check_inputs(op, inputs, options);
    draw_seed(options);
    return attention_formula(inputs, options);
  }
  spell_out(op, inputs, options);
  std::tuple<Tensor, Tensor> outputs;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    outputs = operators::attention(inputs, options);
  }
  const variable_list leaves = leaves_of(inputs, options);
  if (differentiates(leaves)) {
    const auto& [out, lse] = outputs;
    record<AttentionDerivative>(leaves, {out, lse}, [&](AutogradContext* ctx) {
      save(ctx, inputs, options, {.out = out, .lse = lse, .d_out = {}});
    });
  }
  return outputs;
}

Gradients gradients_by_formula(const Inputs& inputs, const AttentionOptions& options,
                               const OutputGradients& outputs, const std::vector<bool>& wanted) {
  const variable_list leaves = leaves_of(inputs, options);
  variable_list found =
      derivative(formula_of(inputs, options), leaves, {outputs.d_out, outputs.d_lse});
  for (size_t i = 0; i < leaves.size(); ++i) {
    const bool is_table = i >= kTables;
    const bool is_wanted =
        is_table ? i - kTables < wanted.size() && wanted[i - kTables] : leaves[i].defined();
    if (!is_wanted) {
      found[i] = at::empty({0}, inputs.q.options());
    } else if (!found[i].defined()) {
      found[i] = at::zeros_like(leaves[i]);
    }
  }
  return {.d_q = found[0],
          .d_k = found[1],
          .d_v = found[2],
          .d_weight = found[3],
          .d_sinks = found[4],
          .d_tables = variable_list(found.begin() + kTables, found.end())};
}

Gradients attend_backward(const char* op, const OptionWords& words, const Inputs& inputs,
                          const OutputGradients& outputs, const std::vector<bool>& wanted) {
  const AttentionOptions options = parse_options(op, words);
  variable_list leaves = leaves_of(inputs, options);
  leaves.insert(leaves.end(), {outputs.d_out, outputs.d_lse});
  if (has_tangent(leaves)) return gradients_by_formula(inputs, options, outputs, wanted);
  Gradients gradients;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradients = operators::attention_backward(inputs, outputs, wanted, options);
  }
  if (differentiates(leaves)) {
    record<SecondDerivative>(leaves, flat(gradients), [&](AutogradContext* ctx) {
      save(ctx, inputs, options,
           {.out = {}, .lse = {}, .d_out = outputs.d_out, .d_lse = outputs.d_lse});
    });
  }
  return gradients;
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
