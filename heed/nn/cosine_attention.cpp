#include "heed/nn/cosine_attention.h"

#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {

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
  const auto scale = table(logit_scale_.clamp_max(std::log(options_.max_scale)).exp());
  const AttentionOptions options{.cosine = true,
                                 .program = program::ScoreProgram(program::score() * scale.value()),
                                 .scale = 1.0,
                                 .kv_lengths = lengths};
  return attend_single_head(query, keys, values, options, weights);
}

void CosineAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::CosineAttention(initial_scale=" << options_.initial_scale
         << ", max_scale=" << options_.max_scale << ")";
}

}  // namespace heed::nn
