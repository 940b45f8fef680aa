// Layer norm (Ba 2016): (x - mean) / sqrt(variance + eps) * weight + bias; or by the root mean
// square alone (Zhang 2019): x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace heed::nn {

enum class NormKind { kLayer, kRms };

struct NormOptions {
  int64_t size;  // E
  NormKind kind = NormKind::kLayer;
  double eps = 1e-5;
  bool bias = true;  // kRms has none
};

class NormImpl : public torch::nn::Module {
 public:
  explicit NormImpl(const NormOptions& options);

  // Weights 1, biases 0.
  void reset_parameters();

  // x [...,E] -> [...,E].
  at::Tensor forward(const at::Tensor& x);

  void pretty_print(std::ostream& stream) const override;

 private:
  NormOptions options_;
  at::Tensor weight_, bias_;  // [E]
};
TORCH_MODULE(Norm);

}  // namespace heed::nn
