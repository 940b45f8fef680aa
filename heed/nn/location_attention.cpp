#include "heed/nn/location_attention.h"

#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include "heed/nn/heads.h"

namespace heed::nn {

LocationAttentionImpl::LocationAttentionImpl(const LocationAttentionOptions& options)
    : options_(options),
      position_keys_(register_parameter("position_keys",
                                        at::empty({options.max_length, options.query_size}))) {
  reset_parameters();
}

void LocationAttentionImpl::reset_parameters() {
  torch::nn::init::uniform_(position_keys_, -0.1, 0.1);
}

// (W q)[s] is the product of q and row s of W, so the rows are keys, the same for every element:
// no score is stored, as it would be if W q were a table that a program reads.
AttentionOutput LocationAttentionImpl::forward(const at::Tensor& query, const at::Tensor& values,
                                               const at::Tensor& lengths, Weights weights) {
  check_rows("LocationAttention", "query", query, "[B,T,query_size]", options_.query_size);
  TORCH_CHECK(values.dim() == 3 && values.size(1) <= options_.max_length,
              "[LocationAttention] values: expected [B,S,Dv] with S <= max_length = ",
              options_.max_length, ", got ", values.sizes());
  const int64_t B = query.size(0), S = values.size(1);
  const at::Tensor keys =
      position_keys_.narrow(0, 0, S).expand({B, S, options_.query_size});  // [B,S,query_size]
  const AttentionOptions options{.scale = 1.0, .kv_lengths = lengths};
  return attend_single_head(query, keys, values, options, weights);
}

void LocationAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::LocationAttention(query_size=" << options_.query_size
         << ", max_length=" << options_.max_length << ")";
}

}  // namespace heed::nn
