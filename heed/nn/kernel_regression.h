// Kernel regression (Nadaraya 1964, Watson 1964): score = -|q - k|^2 / (2 bandwidth^2), so that the
// weights are Gaussians around the query, divided by their sum.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct KernelRegressionOptions {
  double bandwidth = 1;  // where learning starts: a Gaussian's standard deviation, in units of q, k
};

class KernelRegressionImpl : public torch::nn::Module {
 public:
  explicit KernelRegressionImpl(const KernelRegressionOptions& options = {});

  // log_bandwidth = log(bandwidth).
  void reset_parameters();

  // query [B,T,D] and keys [B,S,D] are points, values [B,S,Dv] what was observed at the keys;
  // lengths [B] int64 or undefined. Returns output [B,T,Dv], weights [B,T,S].
  AttentionOutput forward(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths = {}, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  KernelRegressionOptions options_;
  at::Tensor log_bandwidth_;  // []
};
TORCH_MODULE(KernelRegression);

}  // namespace heed::nn
