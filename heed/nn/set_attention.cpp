#include "heed/nn/set_attention.h"

#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include <cmath>

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

at::Tensor normalized(torch::nn::LayerNorm& norm, const at::Tensor& x) {
  return norm ? norm(x) : x;
}

// The block of a set's options whose query or key has the set's width.
MultiheadAttentionBlock block_of(const SetAttentionOptions& options, int64_t query_size,
                                 int64_t key_size) {
  return MultiheadAttentionBlock(MultiheadAttentionBlockOptions{.embed_size = options.embed_size,
                                                                .heads = options.heads,
                                                                .query_size = query_size,
                                                                .key_size = key_size,
                                                                .layer_norm = options.layer_norm,
                                                                .dropout = options.dropout});
}

}  // namespace

MultiheadAttentionBlockImpl::MultiheadAttentionBlockImpl(
    const MultiheadAttentionBlockOptions& options)
    : options_(options) {
  const int64_t E = options.embed_size;
  check_embed_size("MultiheadAttentionBlock", E, options.heads);
  if (options_.query_size == 0) options_.query_size = E;
  if (options_.key_size == 0) options_.key_size = E;
  const auto linear = [&](const char* name, int64_t width) {
    return register_module(name, torch::nn::Linear(width, E));
  };
  query_projection_ = linear("query_projection", options_.query_size);
  key_projection_ = linear("key_projection", options_.key_size);
  value_projection_ = linear("value_projection", options_.key_size);
  feed_forward_ = linear("feed_forward", E);
  if (options.layer_norm) {
    const torch::nn::LayerNormOptions norm({E});
    attention_norm_ = register_module("attention_norm", torch::nn::LayerNorm(norm));
    output_norm_ = register_module("output_norm", torch::nn::LayerNorm(norm));
  }
}

void MultiheadAttentionBlockImpl::reset_parameters() {
  for (auto* linear : {&query_projection_, &key_projection_, &value_projection_, &feed_forward_}) {
    (*linear)->reset_parameters();
  }
  if (!options_.layer_norm) return;
  attention_norm_->reset_parameters();
  output_norm_->reset_parameters();
}

AttentionOutput MultiheadAttentionBlockImpl::forward(const at::Tensor& x, const at::Tensor& y,
                                                     const at::Tensor& lengths, Weights weights) {
  check_rows("MultiheadAttentionBlock", "x", x, "[B,T,query_size]", options_.query_size);
  check_rows("MultiheadAttentionBlock", "y", y, "[B,S,key_size]", options_.key_size);
  const AttentionOptions options{.scale = 1 / std::sqrt(static_cast<double>(options_.embed_size)),
                                 .kv_lengths = lengths,
                                 .dropout_p = is_training() ? options_.dropout : 0};
  const at::Tensor query = query_projection_(x);  // [B,T,E]
  AttentionOutput result = attend_heads(query, key_projection_(y), value_projection_(y),
                                        options_.heads, options, weights);
  const at::Tensor attended = normalized(attention_norm_, query + result.output);
  result.output = normalized(output_norm_, attended + feed_forward_(attended).relu());
  return result;
}

void MultiheadAttentionBlockImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::MultiheadAttentionBlock(embed_size=" << options_.embed_size
         << ", heads=" << options_.heads << ")";
}

SetAttentionBlockImpl::SetAttentionBlockImpl(const SetAttentionOptions& options)
    : torch::nn::Module("heed::nn::SetAttentionBlock"),
      block_(register_module("block", block_of(options, options.input_size, options.input_size))) {}

void SetAttentionBlockImpl::reset_parameters() { block_->reset_parameters(); }

AttentionOutput SetAttentionBlockImpl::forward(const at::Tensor& x, const at::Tensor& lengths,
                                               Weights weights) {
  return block_(x, x, lengths, weights);
}

InducedSetAttentionBlockImpl::InducedSetAttentionBlockImpl(const SetAttentionOptions& options,
                                                           int64_t points)
    : torch::nn::Module("heed::nn::InducedSetAttentionBlock") {
  TORCH_CHECK(points > 0, "[InducedSetAttentionBlock] points: expected at least 1, got ", points);
  points_ = register_parameter("points", at::empty({points, options.embed_size}));
  gather_ = register_module("gather", block_of(options, 0, options.input_size));
  spread_ = register_module("spread", block_of(options, options.input_size, 0));
  torch::nn::init::xavier_uniform_(points_);
}

void InducedSetAttentionBlockImpl::reset_parameters() {
  torch::nn::init::xavier_uniform_(points_);
  gather_->reset_parameters();
  spread_->reset_parameters();
}

AttentionOutput InducedSetAttentionBlockImpl::forward(const at::Tensor& x,
                                                      const at::Tensor& lengths, Weights weights) {
  const at::Tensor points = points_.expand({x.size(0), -1, -1});
  const at::Tensor gathered = gather_(points, x, lengths, Weights::kNone).output;  // [B,points,E]
  return spread_(x, gathered, at::Tensor(), weights);
}

PoolingByMultiheadAttentionImpl::PoolingByMultiheadAttentionImpl(const SetAttentionOptions& options,
                                                                 int64_t seeds)
    : torch::nn::Module("heed::nn::PoolingByMultiheadAttention") {
  const int64_t E = options.embed_size;
  TORCH_CHECK(seeds > 0, "[PoolingByMultiheadAttention] seeds: expected at least 1, got ", seeds);
  TORCH_CHECK(options.input_size == 0 || options.input_size == E,
              "[PoolingByMultiheadAttention] input_size: expected 0 or ", E, ", got ",
              options.input_size);
  seeds_ = register_parameter("seeds", at::empty({seeds, E}));
  feed_forward_ = register_module("feed_forward", torch::nn::Linear(E, E));
  block_ = register_module("block", block_of(options, 0, 0));
  torch::nn::init::xavier_uniform_(seeds_);
}

void PoolingByMultiheadAttentionImpl::reset_parameters() {
  torch::nn::init::xavier_uniform_(seeds_);
  feed_forward_->reset_parameters();
  block_->reset_parameters();
}

AttentionOutput PoolingByMultiheadAttentionImpl::forward(const at::Tensor& x,
                                                         const at::Tensor& lengths,
                                                         Weights weights) {
  check_rows("PoolingByMultiheadAttention", "x", x, "[B,S,E]", seeds_.size(1));
  const at::Tensor seeds = seeds_.expand({x.size(0), -1, -1});
  return block_(seeds, feed_forward_(x).relu(), lengths, weights);
}

}  // namespace heed::nn
