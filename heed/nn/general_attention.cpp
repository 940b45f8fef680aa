#include "heed/nn/general_attention.h"

#include "heed/nn/single_head.h"

namespace heed::nn {

GeneralAttentionImpl::GeneralAttentionImpl(const GeneralAttentionOptions& options)
    : key_projection_(register_module(
          "key_projection",
          torch::nn::Linear(
              torch::nn::LinearOptions(options.key_size, options.query_size).bias(false)))) {}

at::Tensor GeneralAttentionImpl::keys(const at::Tensor& memory) { return key_projection_(memory); }

AttentionOutput GeneralAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                              const at::Tensor& values, const at::Tensor& lengths,
                                              Weights weights) {
  const AttentionOptions options{.score = Score::kDot, .scale = 1.0, .kv_lengths = lengths};
  return attend_single_head(query, keys, values, options, weights);
}

}  // namespace heed::nn
