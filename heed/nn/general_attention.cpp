#include "heed/nn/general_attention.h"

#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {

GeneralAttentionImpl::GeneralAttentionImpl(const GeneralAttentionOptions& options)
    : options_(options),
      key_projection_(register_module("key_projection",
                                      linear_without_bias(options.key_size, options.query_size))) {
  reset_parameters();
}

void GeneralAttentionImpl::reset_parameters() {
  torch::nn::init::uniform_(key_projection_->weight, -0.1, 0.1);
}

at::Tensor GeneralAttentionImpl::keys(const at::Tensor& memory) {
  check_rows("GeneralAttention", "memory", memory, "[B,S,key_size]", options_.key_size);
  return key_projection_(memory);
}

AttentionOutput GeneralAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                              const at::Tensor& values, const at::Tensor& lengths,
                                              Weights weights) {
  check_rows("GeneralAttention", "query", query, "[B,T,query_size]", options_.query_size);
  const AttentionOptions options{.score = Score::kDot, .scale = 1.0, .kv_lengths = lengths};
  return attend_single_head(query, keys, values, options, weights);
}

void GeneralAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::GeneralAttention(query_size=" << options_.query_size
         << ", key_size=" << options_.key_size << ")";
}

}  // namespace heed::nn
