// A module's parameters by name: out to a file and back, strictly.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <map>
#include <string>

namespace heed::models {

using NamedTensors = std::map<std::string, at::Tensor>;

// Parameters and buffers, detached; they share memory with the module.
NamedTensors named_tensors(const torch::nn::Module& module);

// Copies the tensors into the module, whatever their floating type. UserError, opened by `where`,
// when a name is missing or unknown or a shape differs; then nothing was changed.
void load_tensors(torch::nn::Module& module, const NamedTensors& tensors, const std::string& where);

}  // namespace heed::models
