#include "heed/nn/feed_forward.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <ostream>

namespace heed::nn {
namespace {

const char* activation_name(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return "relu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_tanh";
    case Activation::kSwiglu:
      return "swiglu";
  }
  return "";
}

}  // namespace

FeedForwardImpl::FeedForwardImpl(const FeedForwardOptions& options) : options_(options) {
  if (options_.hidden_size == 0) options_.hidden_size = 4 * options.embed_size;
  const int64_t E = options.embed_size, F = options_.hidden_size;
  TORCH_CHECK(F > 0, "[FeedForward] hidden_size: expected at least 1, got ", F);
  TORCH_CHECK(0 <= options.dropout && options.dropout < 1,
              "[FeedForward] dropout: expected in [0, 1), got ", options.dropout);
  const auto projection = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name,
                           torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(options.bias)));
  };
  hidden_projection_ = projection("hidden_projection", E, F);
  if (options.activation == Activation::kSwiglu) {
    gate_projection_ = projection("gate_projection", E, F);
  }
  output_projection_ = projection("output_projection", F, E);
  reset_parameters();
}

void FeedForwardImpl::reset_parameters() {
  for (const auto& [name, parameter] : named_parameters().pairs()) {
    if (parameter.dim() == 2) {
      torch::nn::init::xavier_uniform_(parameter);
    } else {
      torch::nn::init::zeros_(parameter);
    }
  }
}

at::Tensor FeedForwardImpl::forward(const at::Tensor& x) {
  at::Tensor hidden = activated(x);  // [...,F]
  if (options_.dropout > 0) hidden = at::dropout(hidden, options_.dropout, is_training());
  return output_projection_(hidden);
}

at::Tensor FeedForwardImpl::activated(const at::Tensor& x) {
  at::Tensor hidden = hidden_projection_(x);
  switch (options_.activation) {
    case Activation::kRelu:
      return hidden.relu();
    case Activation::kGelu:
      return at::gelu(hidden);
    case Activation::kGeluTanh:
      return at::gelu(hidden, "tanh");
    case Activation::kSwiglu:
      return at::silu(gate_projection_(x)) * hidden;
  }
  return hidden;
}

void FeedForwardImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::FeedForward(embed_size=" << options_.embed_size
         << ", hidden_size=" << options_.hidden_size
         << ", activation=" << activation_name(options_.activation)
         << ", dropout=" << options_.dropout << ")";
}

}  // namespace heed::nn
