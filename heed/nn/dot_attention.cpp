#include "heed/nn/dot_attention.h"

#include "heed/nn/heads.h"

namespace heed::nn {

AttentionOutput DotAttentionImpl::forward(const at::Tensor& query, const at::Tensor& keys,
                                          const at::Tensor& values, const at::Tensor& lengths,
                                          Weights weights) {
  AttentionOptions options{.score = Score::kDot, .kv_lengths = lengths};
  if (!options_.scaled) options.scale = 1.0;
  return attend_single_head(query, keys, values, options, weights);
}

void DotAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::DotAttention(scaled=" << bool_name(options_.scaled) << ")";
}

}  // namespace heed::nn
