#include "heed/nn/norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rms_norm.h>
#include <torch/nn/init.h>

#include <ostream>

namespace heed::nn {

NormImpl::NormImpl(const NormOptions& options)
    : options_(options), weight_(register_parameter("weight", at::empty({options.size}))) {
  if (options.kind == NormKind::kLayer && options.bias) {
    bias_ = register_parameter("bias", at::empty({options.size}));
  }
  reset_parameters();
}

void NormImpl::reset_parameters() {
  torch::nn::init::ones_(weight_);
  if (bias_.defined()) torch::nn::init::zeros_(bias_);
}

at::Tensor NormImpl::forward(const at::Tensor& x) {
  if (options_.kind == NormKind::kRms) {
    return at::rms_norm(x, {options_.size}, weight_, options_.eps);
  }
  return at::layer_norm(x, {options_.size}, weight_, bias_, options_.eps);
}

void NormImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::Norm(size=" << options_.size
         << ", kind=" << (options_.kind == NormKind::kRms ? "rms" : "layer")
         << ", eps=" << options_.eps << ")";
}

}  // namespace heed::nn
