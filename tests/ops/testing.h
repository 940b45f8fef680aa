// What the operators' tests share: random tensors, gradients, the text of an error.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

namespace heed {

inline at::Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::randn(sizes, at::TensorOptions().dtype(type));
}

inline at::Tensor leaf(at::IntArrayRef sizes, at::ScalarType type = at::kDouble) {
  return random(sizes, type).requires_grad_();
}

inline std::vector<at::Tensor> gradients(const at::Tensor& loss,
                                         const std::vector<at::Tensor>& inputs) {
  return torch::autograd::grad({loss}, inputs);
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

}  // namespace heed
