#include "heed/nn/attention_pooling.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tanh.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {

AttentionPoolingImpl::AttentionPoolingImpl(const AttentionPoolingOptions& options)
    : options_(options) {
  TORCH_CHECK(options.queries > 0, "[AttentionPooling] queries: expected at least 1, got ",
              options.queries);
  if (options.hidden_size > 0) {
    projection_ =
        register_module("projection", torch::nn::Linear(options.embed_size, options.hidden_size));
  }
  const int64_t width = options.hidden_size > 0 ? options.hidden_size : options.embed_size;
  query_ = register_parameter("query", at::empty({options.queries, width}));
  reset_parameters();
}

void AttentionPoolingImpl::reset_parameters() {
  if (projection_) projection_->reset_parameters();
  const double bound = 1 / std::sqrt(static_cast<double>(query_.size(1)));
  torch::nn::init::uniform_(query_, -bound, bound);
}

AttentionOutput AttentionPoolingImpl::forward(const at::Tensor& x, const at::Tensor& lengths,
                                              Weights weights) {
  check_rows("AttentionPooling", "x", x, "[B,S,E]", options_.embed_size);
  const at::Tensor keys = projection_ ? at::tanh(projection_(x)) : x;  // [B,S,width]
  const at::Tensor queries = query_.expand({x.size(0), -1, -1});       // [B,queries,width]
  const AttentionOptions options{.scale = 1.0, .kv_lengths = lengths};
  return attend_single_head(queries, keys, x, options, weights);
}

void AttentionPoolingImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::AttentionPooling(embed_size=" << options_.embed_size
         << ", queries=" << options_.queries << ", hidden_size=" << options_.hidden_size << ")";
}

}  // namespace heed::nn
