#include "heed/nn/cbam.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/max_pool2d.h>
#include <torch/nn/init.h>

#include <ostream>
#include <tuple>

#include "heed/nn/feature_map.h"
#include "heed/nn/heads.h"

namespace heed::nn {

CbamImpl::CbamImpl(const CbamOptions& options) : options_(options) {
  const int64_t C = options.channels;
  TORCH_CHECK(C > 0, "[Cbam] channels: expected at least 1, got ", C);
  TORCH_CHECK(options.reduction > 0, "[Cbam] reduction: expected at least 1, got ",
              options.reduction);
  TORCH_CHECK(options.kernel_size > 0 && options.kernel_size % 2 == 1,
              "[Cbam] kernel_size: expected odd, got ", options.kernel_size);
  const int64_t between = reduced_channels(C, options.reduction);
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name,
                           torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(options.bias)));
  };
  reduce_ = linear("reduce", C, between);
  expand_ = linear("expand", between, C);
  spatial_ = register_module("spatial",
                             torch::nn::Conv2d(torch::nn::Conv2dOptions(2, 1, options.kernel_size)
                                                   .padding(options.kernel_size / 2)
                                                   .bias(false)));
  reset_parameters();
}

void CbamImpl::reset_parameters() {
  for (const torch::nn::Linear& linear : {reduce_, expand_}) {
    torch::nn::init::kaiming_normal_(linear->weight);
    if (options_.bias) torch::nn::init::zeros_(linear->bias);
  }
  torch::nn::init::kaiming_normal_(spatial_->weight);
}

CbamOutput CbamImpl::forward(const at::Tensor& x) {
  check_feature_map("Cbam", x, options_.channels);
  const auto mlp = [&](const at::Tensor& pooled) { return expand_(reduce_(pooled).relu()); };
  // Maxima by their index: amax would share the gradient, at several times the cost.
  const at::Tensor largest = at::max_pool2d(x, {x.size(2), x.size(3)}).flatten(1);  // [B,C]
  const at::Tensor of_channels = (mlp(x.mean({2, 3})) + mlp(largest)).sigmoid();    // [B,C]
  const at::Tensor refined = x * of_channels.unsqueeze(-1).unsqueeze(-1);
  const at::Tensor pooled = at::cat(
      {refined.mean(1, /*keepdim=*/true), std::get<0>(refined.max(1, /*keepdim=*/true))}, 1);
  const at::Tensor of_pixels = spatial_(pooled).sigmoid();  // [B,1,rows,columns]
  return {refined * of_pixels, of_channels.detach(), of_pixels.detach().squeeze(1)};
}

void CbamImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::Cbam(channels=" << options_.channels << ", reduction=" << options_.reduction
         << ", kernel_size=" << options_.kernel_size << ", bias=" << bool_name(options_.bias)
         << ")";
}

}  // namespace heed::nn
