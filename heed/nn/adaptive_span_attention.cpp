#include "heed/nn/adaptive_span_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {

AdaptiveSpanAttentionImpl::AdaptiveSpanAttentionImpl(const AdaptiveSpanAttentionOptions& options)
    : options_(options) {
  check_heads("AdaptiveSpanAttention", options.heads);
  TORCH_CHECK(options.max_span > 0 && options.ramp > 0,
              "[AdaptiveSpanAttention] max_span, ramp: expected at least 1, got ", options.max_span,
              ", ", options.ramp);
  span_ = register_parameter("span", at::empty({options.heads}));
  reset_parameters();
}

void AdaptiveSpanAttentionImpl::reset_parameters() {
  torch::nn::init::constant_(span_, options_.initial_span);
}

void AdaptiveSpanAttentionImpl::clamp_span() {
  const at::NoGradGuard no_grad;
  span_.clamp_(0, 1);
}

at::Tensor AdaptiveSpanAttentionImpl::span_loss() const {
  return options_.span_loss_weight * options_.max_span * span_.mean();
}

AttentionOutput AdaptiveSpanAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                                   const at::Tensor& values,
                                                   const at::Tensor& lengths, Weights weights) {
  using namespace program;
  const Expression reach =  // where the mask reaches 0
      table(options_.max_span * span_ + options_.ramp)[h()];
  const Expression distance = abs(t() - s());
  const Expression mask = min((reach - distance) / options_.ramp, 1);
  const int64_t farthest = options_.max_span + options_.ramp - 1;
  const AttentionOptions options{
      .program = ScoreProgram(score() + log(mask), distance < reach),
      .window = {.left = farthest, .right = options_.causal ? 0 : farthest},
      .kv_lengths = lengths,
      .dropout_p = is_training() ? options_.dropout : 0};
  return attend_heads(query, keys, values, options_.heads, options, weights);
}

void AdaptiveSpanAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::AdaptiveSpanAttention(max_span=" << options_.max_span
         << ", heads=" << options_.heads << ", ramp=" << options_.ramp
         << ", causal=" << bool_name(options_.causal) << ")";
}

}  // namespace heed::nn
