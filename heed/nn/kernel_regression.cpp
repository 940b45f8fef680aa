#include "heed/nn/kernel_regression.h"

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {

KernelRegressionImpl::KernelRegressionImpl(const KernelRegressionOptions& options)
    : options_(options), log_bandwidth_(register_parameter("log_bandwidth", at::empty({}))) {
  TORCH_CHECK(options.bandwidth > 0,
              "[KernelRegression] bandwidth: expected a positive number, got ", options.bandwidth);
  reset_parameters();
}

void KernelRegressionImpl::reset_parameters() {
  torch::nn::init::constant_(log_bandwidth_, std::log(options_.bandwidth));
}

// -|q - k|^2 / 2 = <q, k> - |k|^2 / 2 - |q|^2 / 2, whose last term is the same for all keys of a
// query, so the softmax does not see it.
AttentionOutput KernelRegressionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                              const at::Tensor& values, const at::Tensor& lengths,
                                              Weights weights) {
  // Distances stay when all points move. Around the queries' mean the terms are no larger than
  // they must be, and their difference keeps its digits.
  const at::Tensor origin = query.detach().mean(1, /*keepdim=*/true);  // [B,1,D]
  const at::Tensor precision = (-2 * log_bandwidth_).exp();            // []
  const at::Tensor q = (query - origin) * precision, k = within(keys, lengths) - origin;
  const auto real = c10::promoteTypes(k.scalar_type(), at::kFloat);  // 8 bits are too few for sums
  const auto penalty = table(k.to(real).square().sum(-1) * (precision / 2));  // [B,S]
  using namespace program;
  const AttentionOptions options{.program = ScoreProgram(score() - penalty.at({b(), s()})),
                                 .scale = 1.0,
                                 .kv_lengths = lengths};
  return attend_single_head(q, k, values, options, weights);
}

void KernelRegressionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::KernelRegression(bandwidth=" << options_.bandwidth << ")";
}

}  // namespace heed::nn
