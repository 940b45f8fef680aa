#include "heed/nn/relative_positions.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <ostream>
#include <tuple>

#include "heed/nn/heads.h"
#include "heed/ops/score_program.h"

namespace heed::nn {
namespace {

// Up to so many times 2 k + 1 keys, the weights themselves are found sooner than sums of them.
constexpr int64_t kFewKeys = 4;

}  // namespace

RelativePositionsImpl::RelativePositionsImpl(const RelativePositionsOptions& options)
    : options_(options) {
  TORCH_CHECK(options.max_distance > 0,
              "[RelativePositions] max_distance: expected at least 1, got ", options.max_distance);
  if (options_.value_size == 0) options_.value_size = options_.head_size;
  const int64_t rows = 2 * options_.max_distance + 1;
  key_table_ = register_parameter("key_table", at::empty({rows, options_.head_size}));
  if (options_.values) {
    value_table_ = register_parameter("value_table", at::empty({rows, options_.value_size}));
  }
  reset_parameters();
}

void RelativePositionsImpl::reset_parameters() {
  for (const at::Tensor& rows : parameters()) torch::nn::init::xavier_uniform_(rows);
}

program::Expression RelativePositionsImpl::score_mod(const program::Expression& score,
                                                     AttentionHeads& heads) {
  using namespace program;
  const int64_t k = options_.max_distance;
  const Table products = table(at::matmul(heads.q * heads.scale, key_table_.t()));
  const Expression ahead = s() - place_of(heads.offset);
  return score + products.at({b(), h(), t(), min(max(ahead, -k), k) + k});  // [B,H,T,2 k + 1]
}

at::Tensor RelativePositionsImpl::mix(const AttentionHeads& heads, const at::Tensor& values,
                                      const AttendPart& attend) {
  if (!options_.values) return AttentionPositionsImpl::mix(heads, values, attend);
  const bool few = heads.k.size(2) <= kFewKeys * value_table_.size(0);
  const auto [out, shares] =
      few ? by_weights(heads, values, attend) : by_parts(heads, values, attend);
  return out + at::matmul(shares, value_table_);
}

std::pair<at::Tensor, at::Tensor> RelativePositionsImpl::by_weights(
    const AttentionHeads& heads, const at::Tensor& values, const AttendPart& attend) const {
  // Rows of the identity, beside the values, give the weights themselves.
  const int64_t k = options_.max_distance, S = values.size(2), Dv = values.size(3);
  const at::Tensor identity = at::eye(S, values.options());
  const at::Tensor wide =
      at::cat({values, identity.expand({values.size(0), values.size(1), S, S})}, -1);
  const at::Tensor both = std::get<0>(attend(std::nullopt, wide));                 // [B,H,T,Dv + S]
  const at::Tensor weights = both.narrow(-1, Dv, S);                               // [B,H,T,S]
  const at::Tensor queries = places_of(heads.offset, both.size(2)).unsqueeze(-1);  // [T,1], [B,T,1]
  const at::Tensor rows = (at::arange(S, at::kLong) - queries).clamp(-k, k) + k;
  const at::Tensor none =
      at::zeros({both.size(0), both.size(1), both.size(2), 2 * k + 1}, both.options());
  return {both.narrow(-1, 0, Dv),
          none.scatter_add(-1, rows.unsqueeze(-3).expand_as(weights), weights)};
}

std::pair<at::Tensor, at::Tensor> RelativePositionsImpl::by_parts(const AttentionHeads& heads,
                                                                  const at::Tensor& values,
                                                                  const AttendPart& attend) const {
  const int64_t k = options_.max_distance, B = heads.q.size(0), H = heads.q.size(1);
  const int64_t T = heads.q.size(2), Hkv = heads.k.size(1), S = heads.k.size(2);
  const auto [out, lse] = attend(std::nullopt, values);
  const at::ScalarType type = out.scalar_type();
  const at::Tensor blind = lse.isneginf();  // no key is seen: all parts are 0
  const at::Tensor finite = lse.masked_fill(blind, 0);
  // The weights of a part's keys, summed by what `columns` [S,n] says: [B,H,T,n].
  const auto share = [&](const program::Expression& part, const at::Tensor& columns) {
    const auto [mean, part_lse] = attend(part, columns.to(type).expand({B, Hkv, S, -1}));
    return mean * (part_lse - finite).exp().to(type).unsqueeze(-1);
  };

  // The n = 2 k - 1 keys around a query have different remainders s % n, so their weights come
  // back one by one, turned by the query's place.
  const int64_t n = 2 * k - 1;
  const program::Expression ahead = program::s() - place_of(heads.offset);
  const at::Tensor remainders = at::arange(S, at::kLong).unsqueeze(-1).remainder(n);  // [S,1]
  const at::Tensor by_remainder = share(abs(ahead) < k, remainders == at::arange(n, at::kLong));
  const at::Tensor places = places_of(heads.offset, T).unsqueeze(-1);  // [T,1] or [B,T,1]
  const at::Tensor key = (places + at::arange(1 - k, k, at::kLong)).remainder(n).unsqueeze(-3);
  const at::Tensor near = by_remainder.gather(-1, key.expand({B, H, T, n}));
  const at::Tensor ones = at::ones({S, 1});
  const at::Tensor after = share(ahead >= k, ones);
  const at::Tensor before = heads.drops
                                ? share(ahead <= -k, ones)
                                : (~blind).to(type).unsqueeze(-1) - near.sum(-1, true) - after;
  return {out, at::cat({before, near, after}, -1)};
}

void RelativePositionsImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::RelativePositions(head_size=" << options_.head_size
         << ", max_distance=" << options_.max_distance << ", values=" << bool_name(options_.values)
         << ")";
}

}  // namespace heed::nn
