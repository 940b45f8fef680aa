#include "heed/nn/squeeze_excitation.h"

#include <torch/nn/init.h>

#include <ostream>

#include "heed/nn/feature_map.h"
#include "heed/nn/heads.h"

namespace heed::nn {

SqueezeExcitationImpl::SqueezeExcitationImpl(const SqueezeExcitationOptions& options)
    : options_(options) {
  const int64_t C = options.channels;
  TORCH_CHECK(C > 0, "[SqueezeExcitation] channels: expected at least 1, got ", C);
  TORCH_CHECK(options.reduction > 0, "[SqueezeExcitation] reduction: expected at least 1, got ",
              options.reduction);
  const int64_t between = reduced_channels(C, options.reduction);
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name,
                           torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(options.bias)));
  };
  reduce_ = linear("reduce", C, between);
  expand_ = linear("expand", between, C);
  reset_parameters();
}

void SqueezeExcitationImpl::reset_parameters() {
  for (const torch::nn::Linear& linear : {reduce_, expand_}) {
    torch::nn::init::kaiming_normal_(linear->weight);
    if (options_.bias) torch::nn::init::zeros_(linear->bias);
  }
}

ChannelAttentionOutput SqueezeExcitationImpl::forward(const at::Tensor& x) {
  check_feature_map("SqueezeExcitation", x, options_.channels);
  const at::Tensor squeezed = x.mean({2, 3});                              // [B,C]
  const at::Tensor weights = expand_(reduce_(squeezed).relu()).sigmoid();  // [B,C]
  return {x * weights.unsqueeze(-1).unsqueeze(-1), weights.detach()};
}

void SqueezeExcitationImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::SqueezeExcitation(channels=" << options_.channels
         << ", reduction=" << options_.reduction << ", bias=" << bool_name(options_.bias) << ")";
}

}  // namespace heed::nn
