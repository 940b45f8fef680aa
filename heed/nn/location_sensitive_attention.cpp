#include "heed/nn/location_sensitive_attention.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include "heed/nn/additive_attention.h"
#include "heed/nn/heads.h"

namespace heed::nn {

LocationSensitiveAttentionImpl::LocationSensitiveAttentionImpl(
    const LocationSensitiveAttentionOptions& options)
    : options_(options) {
  TORCH_CHECK(options.width > 0 && options.width % 2 == 1,
              "[LocationSensitiveAttention] width: expected an odd number, got ", options.width);
  const int64_t D = options.size;
  query_projection_ = register_module("query_projection", torch::nn::Linear(options.query_size, D));
  key_projection_ = register_module("key_projection", linear_without_bias(options.key_size, D));
  location_convolution_ =
      register_module("location_convolution",
                      torch::nn::Conv1d(torch::nn::Conv1dOptions(1, options.filters, options.width)
                                            .padding(options.width / 2)
                                            .bias(false)));
  location_projection_ =
      register_module("location_projection", linear_without_bias(options.filters, D));
  score_weight_ = register_parameter("score_weight", at::empty({1, D}));
  reset_parameters();
}

void LocationSensitiveAttentionImpl::reset_parameters() {
  for (at::Tensor& parameter : parameters()) torch::nn::init::normal_(parameter, 0, 0.01);
  torch::nn::init::zeros_(query_projection_->bias);
}

at::Tensor LocationSensitiveAttentionImpl::keys(const at::Tensor& memory) {
  check_rows("LocationSensitiveAttention", "memory", memory, "[B,S,key_size]", options_.key_size);
  return key_projection_(memory);
}

AttentionOutput LocationSensitiveAttentionImpl::forward(const at::Tensor& query,
                                                        const at::Tensor& keys,
                                                        const at::Tensor& values,
                                                        const at::Tensor& previous,
                                                        const at::Tensor& lengths) {
  check_rows("LocationSensitiveAttention", "query", query, "[B,1,query_size]", options_.query_size);
  TORCH_CHECK(query.size(1) == 1,
              "[LocationSensitiveAttention] query: expected one step, [B,1,query_size], got ",
              query.sizes());
  at::Tensor located = keys;  // U k + V f [B,S,D]
  if (previous.defined()) {
    check_rows("LocationSensitiveAttention", "previous", previous, "[B,1,S]", keys.size(1));
    const at::Tensor features = location_convolution_(previous).transpose(1, 2);  // [B,S,filters]
    located = keys + location_projection_(features);
  }
  const at::Tensor scores =
      additive_scores(query_projection_(query), located, score_weight_, lengths);  // [B,S]
  const at::Tensor weights =
      softmax_of_scores(scores, lengths).to(values.scalar_type()).unsqueeze(1);  // [B,1,S]
  return {.output = at::bmm(weights, within(values, lengths)), .weights = weights};
}

void LocationSensitiveAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LocationSensitiveAttention(query_size=" << options_.query_size
         << ", key_size=" << options_.key_size << ", size=" << options_.size
         << ", filters=" << options_.filters << ", width=" << options_.width << ")";
}

}  // namespace heed::nn
