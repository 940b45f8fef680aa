#include "heed/nn/additive_attention.h"

#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/single_head.h"

namespace heed::nn {

AdditiveAttentionImpl::AdditiveAttentionImpl(const AdditiveAttentionOptions& options)
    : query_projection_(
          register_module("query_projection", torch::nn::Linear(options.query_size, options.size))),
      key_projection_(register_module(
          "key_projection",
          torch::nn::Linear(torch::nn::LinearOptions(options.key_size, options.size).bias(false)))),
      score_weight_(register_parameter("score_weight", at::empty({1, options.size}))) {
  const double bound = 1 / std::sqrt(static_cast<double>(options.size));  // as a Linear(D, 1)
  torch::nn::init::uniform_(score_weight_, -bound, bound);
}

at::Tensor AdditiveAttentionImpl::keys(const at::Tensor& memory) { return key_projection_(memory); }

AttentionOutput AdditiveAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                               const at::Tensor& values, const at::Tensor& lengths,
                                               Weights weights) {
  const AttentionOptions options{
      .score = Score::kAdditive, .weight = score_weight_, .kv_lengths = lengths};
  return attend_single_head(query_projection_(query), keys, values, options, weights);
}

}  // namespace heed::nn
