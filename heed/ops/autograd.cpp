// Derivatives of a formula by torch's own engine, on aliases of the leaves, so that one leaf's
// history is no part of another's gradient.
#include "heed/ops/autograd.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

namespace heed {
namespace {

using at::AutoGradMode;
using at::GradMode;
using at::Tensor;

bool is_differentiable(const Tensor& leaf) { return leaf.defined() && leaf.is_floating_point(); }

Tensor alias_of(const Tensor& leaf) {
  if (!is_differentiable(leaf)) return leaf;
  Tensor alias = leaf.view_as(leaf);
  if (!alias.requires_grad()) alias.set_requires_grad(true);
  return alias;
}

variable_list aliases_of(const variable_list& leaves) {
  variable_list aliases(leaves.size());
  std::transform(leaves.begin(), leaves.end(), aliases.begin(), alias_of);
  return aliases;
}

// torch::autograd::grad where outputs without a gradient, and leaves that can't have one, are left
// out.
variable_list grad(const variable_list& outputs, const variable_list& leaves,
                   const variable_list& d_outputs, bool create_graph) {
  variable_list ends, d_ends, starts;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const bool flows = outputs[i].defined() && outputs[i].requires_grad();
    if (!flows || !d_outputs[i].defined()) continue;
    ends.push_back(outputs[i]);
    d_ends.push_back(d_outputs[i]);
  }
  std::copy_if(leaves.begin(), leaves.end(), std::back_inserter(starts), is_differentiable);
  variable_list results(leaves.size());
  if (ends.empty() || starts.empty()) return results;
  const variable_list found =
      torch::autograd::grad(ends, starts, d_ends, /*retain_graph=*/create_graph, create_graph,
                            /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < leaves.size(); ++i) {
    if (is_differentiable(leaves[i])) results[i] = found[next++];
  }
  return results;
}

}  // namespace

bool differentiates(const variable_list& leaves) {
  if (!GradMode::is_enabled()) return false;
  return std::any_of(leaves.begin(), leaves.end(),
                     [](const Tensor& leaf) { return leaf.defined() && leaf.requires_grad(); });
}

bool has_tangent(const variable_list& leaves) {
  return std::any_of(leaves.begin(), leaves.end(), [](const Tensor& leaf) {
    return leaf.defined() && leaf._fw_grad(/*level=*/0).defined();
  });
}

variable_list derivative(const Formula& formula, const variable_list& leaves,
                         const variable_list& d_outputs) {
  const bool create_graph = GradMode::is_enabled();
  const AutoGradMode recording(true);
  const variable_list aliases = aliases_of(leaves);
  return grad(formula(aliases), aliases, d_outputs, create_graph);
}

variable_list second_derivative(const Formula& formula, const variable_list& leaves,
                                const variable_list& d_outputs, const variable_list& d_gradients) {
  const bool create_graph = GradMode::is_enabled();
  const AutoGradMode recording(true);
  const variable_list own = aliases_of(leaves), own_d_outputs = aliases_of(d_outputs);
  const variable_list gradients = derivative(formula, own, own_d_outputs);
  variable_list all = own;
  all.insert(all.end(), own_d_outputs.begin(), own_d_outputs.end());
  return grad(gradients, all, d_gradients, create_graph);
}

}  // namespace heed
