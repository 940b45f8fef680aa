#include "heed/train/optimizer.h"

#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/grad_mode.h>

#include "heed/data/error.h"

namespace heed::train {

AdamW::AdamW(const torch::nn::Module& module, AdamWOptions options)
    : options_(options), groups_(2) {
  groups_[0].weight_decay = options.weight_decay;
  for (const auto& item : module.named_parameters()) {
    Group& group = groups_[item.value().dim() >= 2 ? 0 : 1];
    group.names.push_back(item.key());
    group.parameters.push_back(item.value());
    group.first_moments.push_back(at::zeros_like(item.value()));
    group.second_moments.push_back(at::zeros_like(item.value()));
    group.steps.push_back(at::zeros({}, at::kFloat));
  }
}

void AdamW::zero_grad() {
  for (Group& group : groups_) {
    for (at::Tensor& parameter : group.parameters) parameter.mutable_grad() = at::Tensor();
  }
}

std::vector<at::Tensor> AdamW::gradients(const Group& group) const {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : group.parameters) {
    const at::Tensor& gradient = parameter.grad();
    // A parameter that the loss did not reach stands still but for its decay.
    gradients.push_back(gradient.defined() ? gradient : at::zeros_like(parameter));
  }
  return gradients;
}

double AdamW::clip_gradients(double max_norm) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all;
  for (const Group& group : groups_) {
    for (const at::Tensor& parameter : group.parameters) {
      if (parameter.grad().defined()) all.push_back(parameter.grad());
    }
  }
  if (all.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(all)).norm().item<double>();
  if (max_norm > 0 && norm > max_norm) at::_foreach_mul_(all, max_norm / norm);
  return norm;
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  for (Group& group : groups_) {
    if (group.parameters.empty()) continue;
    for (at::Tensor& step : group.steps) step.add_(1);
    at::_fused_adamw_(group.parameters, gradients(group), group.first_moments, group.second_moments,
                      /*max_exp_avg_sqs=*/{}, group.steps, learning_rate, options_.beta1,
                      options_.beta2, group.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

models::NamedTensors AdamW::state() const {
  models::NamedTensors state;
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      state[group.names[i] + ".first_moment"] = group.first_moments[i];
      state[group.names[i] + ".second_moment"] = group.second_moments[i];
      state[group.names[i] + ".step"] = group.steps[i];
    }
  }
  return state;
}

void AdamW::load_state(const models::NamedTensors& saved) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : state()) {
    const auto found = saved.find(name);
    if (found == saved.end() || found->second.sizes() != tensor.sizes()) {
      throw UserError("the checkpoint's optimiser state lacks '" + name +
                      "' or has it in another shape; it belongs to another model");
    }
    tensor.copy_(found->second);
  }
}

}  // namespace heed::train
