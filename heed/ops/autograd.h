// Derivatives of the operators: how a call is recorded in autograd's graph, and derivatives beyond
// the first, taken of a formula that torch can differentiate as often as it likes.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <functional>

namespace heed {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Leaves may be undefined tensors in all that follows.

// Whether autograd would record what is made of `leaves`.
bool differentiates(const variable_list& leaves);

// Whether one of them carries a tangent (forward mode).
bool has_tangent(const variable_list& leaves);

// Makes `outputs` the results of a call whose derivative is F::backward(context, d_outputs), one
// gradient for each of `leaves`; save(context) keeps what that needs. As F::apply would, except
// that the outputs are there already: so it serves torch.func's transforms too, which apply()
// refuses because an F::forward could do what they do not see.
template <class F, class Save>
void record(const variable_list& leaves, const variable_list& outputs, const Save& save) {
  auto node = c10::make_intrusive<torch::autograd::CppNode<F>>();
  node->is_variable_input_.assign(leaves.size(), true);
  node->set_ctx_grad_fn(node);
  node->set_next_edges(torch::autograd::collect_next_edges(leaves));
  node->clear_input_metadata();
  save(&node->ctx_);
  node->ctx_.set_materialize_grads(false);
  torch::autograd::set_history(outputs, node);
  for (const at::Tensor& output : outputs) node->output_info_.emplace_back(output);
  node->save_variables_to_ctx();
}

// Outputs of leaves, in operations that torch differentiates.
using Formula = std::function<variable_list(const variable_list& leaves)>;

// sum_i d_outputs[i] d outputs[i] / d leaves[j]; undefined where there is none. Those of d_outputs
// may be undefined. Differentiable itself where gradients are being recorded.
variable_list derivative(const Formula& formula, const variable_list& leaves,
                         const variable_list& d_outputs);

// What derivative() depends on: gradients of leaves, then of d_outputs, given those of its results.
variable_list second_derivative(const Formula& formula, const variable_list& leaves,
                                const variable_list& d_outputs, const variable_list& d_gradients);

}  // namespace heed
