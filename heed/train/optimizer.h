// AdamW (Loshchilov & Hutter 2019) in torch's fused form, with clipping by the global norm.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "heed/models/parameters.h"

namespace heed::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8;
  double weight_decay = 0.01;  // of matrices; vectors (biases, scales) do not decay

  template <class Visitor>
  void visit(Visitor& v) {
    v("beta1", beta1, {0, 0.9999});
    v("beta2", beta2, {0, 0.99999});
    v("epsilon", epsilon, {1e-16, 1});
    v("weight_decay", weight_decay, {0, 10});
  }
};

class AdamW {
 public:
  AdamW(const torch::nn::Module& module, AdamWOptions options);

  void zero_grad();
  // The global L2 norm of all gradients; scales them down to `max_norm` where it is larger
  // (max_norm 0: only measures).
  double clip_gradients(double max_norm);
  void step(double learning_rate);

  // Moments and step counts, by the parameters' names; for checkpoints.
  models::NamedTensors state() const;
  void load_state(const models::NamedTensors& state);

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<std::string> names;
    std::vector<at::Tensor> parameters, first_moments, second_moments, steps;
  };
  std::vector<at::Tensor> gradients(const Group& group) const;

  AdamWOptions options_;
  std::vector<Group> groups_;
};

}  // namespace heed::train
