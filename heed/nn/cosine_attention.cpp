#include "heed/nn/cosine_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/promote_types.h>
#include <torch/nn/functional/normalization.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

// x [...,D] with each row divided by its norm; in float32 at least, as a norm of eight bits would
// change all of a key's scores.
at::Tensor rows_by_norm(const at::Tensor& x) {
  const auto real = at::promote_types(x.scalar_type(), at::kFloat);
  return torch::nn::functional::normalize(x.to(real),
                                          torch::nn::functional::NormalizeFuncOptions().dim(-1));
}

}  // namespace

CosineAttentionImpl::CosineAttentionImpl(const CosineAttentionOptions& options)
    : options_(options), logit_scale_(register_parameter("logit_scale", at::empty({}))) {
  TORCH_CHECK(0 < options.initial_scale && options.initial_scale <= options.max_scale,
              "[CosineAttention] initial_scale: expected a number in (0, max_scale = ",
              options.max_scale, "], got ", options.initial_scale);
  reset_parameters();
}

void CosineAttentionImpl::reset_parameters() {
  torch::nn::init::constant_(logit_scale_, std::log(options_.initial_scale));
}

AttentionOutput CosineAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                             const at::Tensor& values, const at::Tensor& lengths,
                                             Weights weights) {
  const at::Tensor scale = logit_scale_.clamp_max(std::log(options_.max_scale)).exp();
  const at::Tensor q = (rows_by_norm(query) * scale).to(query.scalar_type());
  const at::Tensor k = rows_by_norm(within(keys, lengths)).to(keys.scalar_type());
  const AttentionOptions options{.scale = 1.0, .kv_lengths = lengths};
  return attend_single_head(q, k, values, options, weights);
}

void CosineAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::CosineAttention(initial_scale=" << options_.initial_scale
         << ", max_scale=" << options_.max_scale << ")";
}

}  // namespace heed::nn
