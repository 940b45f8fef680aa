// Gradient checkpointing (Chen 2016): only a function's inputs are kept for the backward pass,
// which computes the rest again. One more forward pass for the memory of all that is between.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace heed::nn {

// Tensors may be undefined, on either side.
using CheckpointFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// function(inputs), with gradients for the inputs and for whatever else it reads: parameters of
// modules, tensors that it captures. It runs again, on the same inputs and with the same random
// numbers, when gradients of its outputs arrive, so it must not change anything. Gradients may be
// accumulated or returned, differentiated once more (where they are asked for with a graph), taken
// twice (where the graph is retained), and a checkpoint may stand inside another's function.
//
//   const at::Tensor y = checkpoint([layer](const auto& x) mutable { return layer(x); }, x);
//
// Holds function until the graph is freed: capture modules by their holders, not by reference.
std::vector<at::Tensor> checkpoint(const CheckpointFunction& function,
                                   const std::vector<at::Tensor>& inputs);

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& function,
                      const at::Tensor& input);

}  // namespace heed::nn
