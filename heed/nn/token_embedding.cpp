#include "heed/nn/token_embedding.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>

namespace heed::nn {

TokenEmbeddingImpl::TokenEmbeddingImpl(const TokenEmbeddingOptions& options)
    : options_(options),
      weight_(
          register_parameter("weight", at::empty({options.vocabulary_size, options.embed_size}))) {
  const int64_t V = options.vocabulary_size, padding = options.padding_index.value_or(0);
  TORCH_CHECK(!options.padding_index || (0 <= padding && padding < V),
              "[TokenEmbedding] padding_index: expected in [0, ", V, "), got ", padding);
  TORCH_CHECK(0 <= options.dropout && options.dropout < 1,
              "[TokenEmbedding] dropout: expected in [0, 1), got ", options.dropout);
  if (!options_.positions.is_empty()) register_module("positions", options_.positions.ptr());
  reset_parameters();
}

void TokenEmbeddingImpl::reset_parameters() {
  const bool gpt2 = options_.initialization == Initialization::kGpt2;
  const double deviation = gpt2 ? 0.02 : 1 / std::sqrt(static_cast<double>(options_.embed_size));
  torch::nn::init::normal_(weight_, 0, deviation);
  const at::NoGradGuard no_grad;
  if (options_.padding_index) weight_[*options_.padding_index].zero_();
}

at::Tensor TokenEmbeddingImpl::forward(const at::Tensor& tokens, const at::Tensor& offset) {
  at::Tensor x = at::embedding(weight_, tokens, options_.padding_index.value_or(-1));
  if (options_.scaled) x = x * std::sqrt(static_cast<double>(options_.embed_size));
  if (!options_.positions.is_empty()) x = options_.positions.forward<at::Tensor>(x, offset);
  return options_.dropout > 0 ? at::dropout(x, options_.dropout, is_training()) : x;
}

at::Tensor TokenEmbeddingImpl::logits(const at::Tensor& output) const {
  return at::linear(output, weight_);
}

void TokenEmbeddingImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::TokenEmbedding(vocabulary_size=" << options_.vocabulary_size
         << ", embed_size=" << options_.embed_size << ", scaled=" << std::boolalpha
         << options_.scaled << ")";
}

}  // namespace heed::nn
