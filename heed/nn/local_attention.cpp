#include "heed/nn/local_attention.h"

#include "heed/nn/heads.h"

namespace heed::nn {

LocalAttentionImpl::LocalAttentionImpl(const LocalAttentionOptions& options) : options_(options) {
  check_heads("LocalAttention", options.heads);
  TORCH_CHECK(options.window >= 0, "[LocalAttention] window: expected at least 0, got ",
              options.window);
}

AttentionOutput LocalAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                            const at::Tensor& values, const at::Tensor& lengths,
                                            Weights weights) {
  const AttentionOptions options{.causal = options_.causal,
                                 .window = {.left = options_.window, .right = options_.window},
                                 .kv_lengths = lengths,
                                 .dropout_p = is_training() ? options_.dropout : 0};
  return attend_heads(query, keys, values, options_.heads, options, weights);
}

void LocalAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LocalAttention(window=" << options_.window << ", heads=" << options_.heads
         << ", causal=" << corner_name(options_.causal) << ")";
}

}  // namespace heed::nn
