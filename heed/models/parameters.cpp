#include "heed/models/parameters.h"

#include <c10/util/StringUtil.h>
#include <torch/csrc/autograd/grad_mode.h>

#include "heed/data/error.h"

namespace heed::models {

NamedTensors named_tensors(const torch::nn::Module& module) {
  NamedTensors tensors;
  for (const auto& item : module.named_parameters()) tensors[item.key()] = item.value().detach();
  for (const auto& item : module.named_buffers()) tensors[item.key()] = item.value().detach();
  return tensors;
}

void load_tensors(torch::nn::Module& module, const NamedTensors& tensors,
                  const std::string& where) {
  const NamedTensors own = named_tensors(module);
  for (const auto& [name, value] : own) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      throw UserError(where + ": tensor '" + name +
                      "' is missing; the file belongs to another model");
    }
    if (found->second.sizes() != value.sizes()) {
      throw UserError(where + ": tensor '" + name + "': expected " + c10::str(value.sizes()) +
                      ", got " + c10::str(found->second.sizes()));
    }
  }
  for (const auto& [name, value] : tensors) {
    if (own.count(name) == 0) {
      throw UserError(where + ": unknown tensor '" + name + "'; the file belongs to another model");
    }
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, value] : own) value.copy_(tensors.at(name));
}

}  // namespace heed::models
