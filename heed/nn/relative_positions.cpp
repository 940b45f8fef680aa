#include "heed/nn/relative_positions.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <limits>
#include <ostream>

#include "heed/nn/heads.h"
#include "heed/ops/score_program.h"

namespace heed::nn {

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

at::Tensor RelativePositionsImpl::with_values(const at::Tensor& out, const at::Tensor& lse,
                                              const AttentionHeads& heads,
                                              const AttendPart& attend) {
  if (!options_.values) return out;
  const int64_t k = options_.max_distance, B = heads.q.size(0), H = heads.q.size(1);
  const int64_t T = heads.q.size(2), Hkv = heads.k.size(1), S = heads.k.size(2);
  // Where no key is seen, all parts are 0.
  const at::Tensor finite = lse.masked_fill(lse == -std::numeric_limits<double>::infinity(), 0);
  // The weights of a part's keys, summed by what `values` [S,n] says: [B,H,T,n].
  const auto share = [&](const program::Expression& part, const at::Tensor& values) {
    const auto [mean, part_lse] =
        attend(part, values.to(out.scalar_type()).expand({B, Hkv, S, values.size(1)}));
    return mean * (part_lse - finite).exp().to(out.scalar_type()).unsqueeze(-1);
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
  const at::Tensor before = share(ahead <= -k, ones), after = share(ahead >= k, ones);
  return out + at::matmul(at::cat({before, near, after}, -1), value_table_);
}

void RelativePositionsImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::RelativePositions(head_size=" << options_.head_size
         << ", max_distance=" << options_.max_distance << ", values=" << bool_name(options_.values)
         << ")";
}

}  // namespace heed::nn
