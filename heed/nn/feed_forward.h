// The feed-forward network between attentions (Vaswani 2017): f(x W_1 + b_1) W_2 + b_2, each row by
// itself; gated (Shazeer 2020): (silu(x W_g) * x W_1) W_2.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

enum class Activation {
  kRelu,
  kGelu,      // exact (Hendrycks 2016)
  kGeluTanh,  // by its approximation
  kSwiglu,
};

struct FeedForwardOptions {
  int64_t embed_size;       // E
  int64_t hidden_size = 0;  // F; 0 means 4 E
  Activation activation = Activation::kRelu;
  bool bias = true;    // of the projections
  double dropout = 0;  // probability with which a hidden unit is dropped while training
};

class FeedForwardImpl : public torch::nn::Module {
 public:
  explicit FeedForwardImpl(const FeedForwardOptions& options);

  // Glorot's uniform, biases 0, as the paper's own program.
  void reset_parameters();

  // x [...,E] -> [...,E].
  at::Tensor forward(const at::Tensor& x);

  void pretty_print(std::ostream& stream) const override;

 private:
  at::Tensor activated(const at::Tensor& x);

  FeedForwardOptions options_;
  torch::nn::Linear hidden_projection_{nullptr}, gate_projection_{nullptr},
      output_projection_{nullptr};
};
TORCH_MODULE(FeedForward);

}  // namespace heed::nn
