#include "heed/nn/multi_head_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <ostream>

#include "heed/nn/heads.h"

namespace heed::nn {
namespace {

using program::Expression;

torch::nn::Linear projection_of(int64_t in, int64_t out, bool bias) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(bias));
}

MultiHeadAttentionOptions multi_head_options(MultiHeadAttentionOptions options) {
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  if (options.key_size == 0) options.key_size = options.embed_size;
  if (options.value_size == 0) options.value_size = options.embed_size;
  TORCH_CHECK(
      options.heads > 0 && (options.head_size > 0 || options.embed_size % options.heads == 0),
      "[MultiHeadAttention] embed_size: expected a multiple of heads = ", options.heads, ", got ",
      options.embed_size, "; or give head_size");
  TORCH_CHECK(options.kv_heads > 0 && options.heads % options.kv_heads == 0,
              "[MultiHeadAttention] kv_heads: expected a divisor of heads = ", options.heads,
              ", got ", options.kv_heads);
  TORCH_CHECK(0 <= options.dropout && options.dropout < 1,
              "[MultiHeadAttention] dropout: expected in [0, 1), got ", options.dropout);
  if (options.head_size == 0) options.head_size = options.embed_size / options.heads;
  if (options.value_head_size == 0) options.value_head_size = options.head_size;
  if (!options.scale) options.scale = 1 / std::sqrt(static_cast<double>(options.head_size));
  return options;
}

void require(std::optional<Expression>& mask, const Expression& rule) {
  mask = mask ? *mask && rule : rule;
}

// causal and window counted from each element's own place.
void require_near(std::optional<Expression>& mask, const at::Tensor& offset, Causal causal,
                  const Window& window) {
  const Expression ahead = program::s() - place_of(offset);
  if (causal != Causal::kNone) {
    require(mask, ahead <= 0);
  } else if (window.right >= 0) {
    require(mask, ahead <= window.right);
  }
  if (window.left >= 0) require(mask, -window.left <= ahead);
}

void require_keys(std::optional<Expression>& mask, const at::Tensor& key_padding,
                  const at::Tensor& k) {
  TORCH_CHECK(key_padding.scalar_type() == at::kBool &&
                  key_padding.sizes() == at::IntArrayRef({k.size(0), k.size(2)}),
              "[MultiHeadAttention] key_padding: expected bool [B,S] = [", k.size(0), ", ",
              k.size(2), "], got ", key_padding.scalar_type(), " ", key_padding.sizes());
  require(mask, !table(key_padding).at({program::b(), program::s()}));
}

// The score before anything became of it: one node, so that it can be told from all others.
const Expression& plain_score() {
  static const Expression dot = program::score();
  return dot;
}

// The program, or none where nothing is asked of it.
TensorProgram program_of(const Expression& score, const std::optional<Expression>& mask) {
  if (mask) return program::ScoreProgram(score, *mask);
  return score.node() == plain_score().node() ? TensorProgram() : program::ScoreProgram(score);
}

// head_mask as a factor of mixed [B,H,T,Dv].
at::Tensor of_heads(const at::Tensor& head_mask, const at::Tensor& mixed) {
  const int64_t B = mixed.size(0), H = mixed.size(1);
  TORCH_CHECK(
      head_mask.sizes() == at::IntArrayRef({H}) || head_mask.sizes() == at::IntArrayRef({B, H}),
      "[MultiHeadAttention] head_mask: expected [H] = [", H, "] or [B,H] = [", B, ", ", H,
      "], got ", head_mask.sizes());
  return head_mask.to(mixed.scalar_type()).unsqueeze(-1).unsqueeze(-1);
}

}  // namespace

MultiHeadAttentionImpl::MultiHeadAttentionImpl(const MultiHeadAttentionOptions& options)
    : options_(multi_head_options(options)) {
  const MultiHeadAttentionOptions& o = options_;
  query_projection_ = register_module("query_projection",
                                      projection_of(o.embed_size, o.heads * o.head_size, o.bias));
  key_projection_ = register_module("key_projection",
                                    projection_of(o.key_size, o.kv_heads * o.head_size, o.bias));
  value_projection_ = register_module(
      "value_projection", projection_of(o.value_size, o.kv_heads * o.value_head_size, o.bias));
  output_projection_ = register_module(
      "output_projection", projection_of(o.heads * o.value_head_size, o.embed_size, o.bias));
  if (o.positions) register_module("positions", o.positions);
  reset_parameters();
}

void MultiHeadAttentionImpl::reset_parameters() {
  for (const torch::nn::Linear& projection :
       {query_projection_, key_projection_, value_projection_, output_projection_}) {
    torch::nn::init::xavier_uniform_(projection->weight);
    if (options_.bias) torch::nn::init::zeros_(projection->bias);
  }
}

AttentionOutput MultiHeadAttentionImpl::forward(const at::Tensor& query, const at::Tensor& key,
                                                const at::Tensor& value, const at::Tensor& lengths,
                                                Causal causal, Weights weights) {
  return attend(query, key, value,
                MultiHeadAttentionCall{.lengths = lengths, .causal = causal, .weights = weights});
}

AttentionOutput MultiHeadAttentionImpl::attend(const at::Tensor& query, const at::Tensor& key,
                                               const at::Tensor& value,
                                               const MultiHeadAttentionCall& call) {
  const at::Tensor rows = batch_first(query);  // [B,T,E]
  AttentionHeads heads{.q = heads_of(query_projection_(rows), options_.heads),
                       .k = {},
                       .offset = offset_of(rows, key, call),
                       .scale = *options_.scale,
                       .drops = is_training() && options_.dropout > 0};
  if (options_.positions) heads.q = options_.positions->rotate(heads.q, heads.offset);
  at::Tensor v, kv_lengths;
  read_keys(key, value, call, heads, v, kv_lengths);

  AttentionOptions options{.causal = call.causal,
                           .window = call.window,
                           .scale = heads.scale,
                           .kv_lengths = kv_lengths,
                           .dropout_p = heads.drops ? options_.dropout : 0};
  std::optional<Expression> mask = call.mask;
  if (call.key_padding.defined()) require_keys(mask, call.key_padding, heads.k);
  if (call.cache != nullptr && call.append) {
    if (!call.lengths.defined() && call.causal != Causal::kNone) {
      options.causal = Causal::kBottomRight;  // the last query stands at the end
    } else {
      require_near(mask, heads.offset, call.causal, call.window);
      options.causal = Causal::kNone;
      options.window = {};
    }
  }
  Expression score = plain_score();
  if (options_.positions) score = options_.positions->score_mod(score, heads);
  if (call.score_mod) score = call.score_mod(score);

  at::Tensor mixed = mix(heads, v, score, mask, options);  // [B,H,T,Dv]
  if (call.head_mask.defined()) mixed = mixed * of_heads(call.head_mask, mixed);
  AttentionOutput result;
  result.output = batch_first(output_projection_(join_heads(mixed)));
  if (call.weights == Weights::kReturn) {
    result.weights = attention_weights(heads.q, heads.k, options);
  }
  return result;
}

KeyValueCache MultiHeadAttentionImpl::make_cache(int64_t batch, int64_t capacity, bool grow) const {
  return KeyValueCache({.batch = batch,
                        .kv_heads = options_.kv_heads,
                        .capacity = capacity,
                        .key_size = options_.head_size,
                        .value_size = options_.value_head_size,
                        .grow = grow,
                        .tensor = key_projection_->weight.options()});
}

void MultiHeadAttentionImpl::pretty_print(std::ostream& stream) const {
  const MultiHeadAttentionOptions& o = options_;
  stream << "heed::nn::MultiHeadAttention(embed_size=" << o.embed_size << ", heads=" << o.heads
         << ", kv_heads=" << o.kv_heads << ", head_size=" << o.head_size
         << ", value_head_size=" << o.value_head_size << ", dropout=" << o.dropout
         << ", batch_first=" << bool_name(o.batch_first) << ")";
}

at::Tensor MultiHeadAttentionImpl::batch_first(const at::Tensor& x) const {
  return options_.batch_first ? x : x.transpose(0, 1);
}

at::Tensor MultiHeadAttentionImpl::offset_of(const at::Tensor& query, const at::Tensor& key,
                                             const MultiHeadAttentionCall& call) const {
  if (call.cache != nullptr) return call.append ? call.cache->lengths() : at::Tensor();
  const int64_t T = query.size(1), S = key.size(options_.batch_first ? 1 : 0);
  if (call.causal != Causal::kBottomRight || (!call.lengths.defined() && T == S)) return {};
  return call.lengths.defined() ? call.lengths - T : at::full({query.size(0)}, S - T, at::kLong);
}

void MultiHeadAttentionImpl::read_keys(const at::Tensor& key, const at::Tensor& value,
                                       const MultiHeadAttentionCall& call, AttentionHeads& heads,
                                       at::Tensor& v, at::Tensor& kv_lengths) {
  KeyValueCache* const cache = call.cache;
  if (cache == nullptr || call.append) {
    heads.k = heads_of(key_projection_(batch_first(key)), options_.kv_heads);
    v = heads_of(value_projection_(batch_first(value)), options_.kv_heads);
    if (options_.positions) {
      heads.k = options_.positions->rotate(heads.k, cache == nullptr ? at::Tensor() : heads.offset);
    }
  }
  kv_lengths = call.lengths;
  if (cache == nullptr) return;
  if (call.append) cache->append(heads.k, v, call.lengths);
  heads.k = cache->keys();
  v = cache->values();
  kv_lengths = cache->uniform() ? at::Tensor() : cache->lengths();
}

at::Tensor MultiHeadAttentionImpl::mix(const AttentionHeads& heads, const at::Tensor& v,
                                       const Expression& score,
                                       const std::optional<Expression>& mask,
                                       AttentionOptions& options) {
  options.program = program_of(score, mask);
  if (!options_.positions) return attention(heads.q, heads.k, v, options);
  if (options.dropout_p > 0) {  // the parts that positions ask for drop the same weights
    options.drawn_seed = at::randint(int64_t{1} << 62, {}, at::kLong);
  }
  const AttendPart attend_part = [&](const std::optional<Expression>& part,
                                     const at::Tensor& values) {
    std::optional<Expression> both = mask;
    if (part) require(both, *part);
    AttentionOptions of_part = options;
    of_part.program = program_of(score, both);
    return attention_with_lse(heads.q, heads.k, values, of_part);
  };
  return options_.positions->mix(heads, v, attend_part);
}

}  // namespace heed::nn
