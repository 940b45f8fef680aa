#include "heed/nn/top_k_attention.h"

#include <algorithm>

#include "heed/nn/heads.h"

namespace heed::nn {

TopKAttentionImpl::TopKAttentionImpl(const TopKAttentionOptions& options) : options_(options) {
  check_heads("TopKAttention", options.heads);
  TORCH_CHECK(options.sparsity_factor > 0 && options.sparsity_factor <= 1,
              "[TopKAttention] sparsity_factor: expected in (0, 1], got ", options.sparsity_factor);
}

AttentionOutput TopKAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                           const at::Tensor& values, const at::Tensor& lengths,
                                           Weights weights) {
  const auto kept =
      static_cast<int64_t>(options_.sparsity_factor * static_cast<double>(keys.size(1)));
  const AttentionOptions options{.kv_lengths = lengths,
                                 .top_k = std::max<int64_t>(kept, 1),
                                 .dropout_p = is_training() ? options_.dropout : 0};
  return attend_heads(query, keys, values, options_.heads, options, weights);
}

void TopKAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::TopKAttention(sparsity_factor=" << options_.sparsity_factor
         << ", heads=" << options_.heads << ")";
}

}  // namespace heed::nn
