#include "heed/nn/content_location_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <c10/core/ScalarType.h>
#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {
ContentLocationAttentionImpl::ContentLocationAttentionImpl(
    const ContentLocationAttentionOptions& options)
    : options_(options),
      hidden_projection_(
          register_module("hidden_projection", linear_without_bias(options.size, options.size))),
      centre_projection_(
          register_module("centre_projection", linear_without_bias(options.size, 1))),
      window_projection_(
          register_module("window_projection", linear_without_bias(options.size, 1))) {
  reset_parameters();
}

void ContentLocationAttentionImpl::reset_parameters() {
  for (at::Tensor& matrix : parameters()) torch::nn::init::xavier_uniform_(matrix);
}

AttentionOutput ContentLocationAttentionImpl::forward(const at::Tensor& query,
                                                      const at::Tensor& keys,
                                                      const at::Tensor& values,
                                                      const at::Tensor& lengths, Weights weights) {
  check_rows("ContentLocationAttention", "query", query, "[B,T,size]", options_.size);
  const at::Tensor hidden = at::tanh(hidden_projection_(query));  // [B,T,D]
  const at::Tensor n =                                            // [B,1] or []
      lengths.defined() ? lengths.unsqueeze(1) : at::full({}, keys.size(1), at::kLong);
  const auto real = c10::promoteTypes(query.scalar_type(), at::kFloat);  // 8 bits can't count keys
  const auto share_of_keys = [&](torch::nn::Linear& projection) {        // [B,T]
    return n * at::sigmoid(projection(hidden).squeeze(-1).to(real));
  };
  const at::Tensor P = share_of_keys(centre_projection_);
  // A tenth of a key is as good as no width at all, and its square still is a number.
  const at::Tensor W = share_of_keys(window_projection_).clamp_min(0.1);
  using namespace program;
  const auto centre = table(P), precision = table(2 / W.square());
  const Expression away = s() - centre.at({b(), t()});
  AttentionOptions options{
      .program = ScoreProgram(score() - precision.at({b(), t()}) * (away * away)),
      .kv_lengths = lengths};
  if (!options_.scaled) options.scale = 1.0;
  return attend_single_head(query, keys, values, options, weights);
}

void ContentLocationAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::ContentLocationAttention(size=" << options_.size
         << ", scaled=" << bool_name(options_.scaled) << ")";
}

}  // namespace heed::nn
