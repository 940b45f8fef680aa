#include "heed/nn/attention_positions.h"

#include <ATen/ops/arange.h>

#include "heed/ops/score_program.h"

namespace heed::nn {

at::Tensor AttentionPositionsImpl::rotate(const at::Tensor& x, const at::Tensor&) { return x; }

program::Expression AttentionPositionsImpl::score_mod(const program::Expression& score,
                                                      AttentionHeads&) {
  return score;
}

at::Tensor AttentionPositionsImpl::mix(const AttentionHeads&, const at::Tensor& values,
                                       const AttendPart& attend) {
  return std::get<0>(attend(std::nullopt, values));
}

at::Tensor places_of(const at::Tensor& offset, int64_t length) {
  const at::Tensor rows = at::arange(length, at::kLong);
  return offset.defined() ? offset.unsqueeze(-1) + rows : rows;
}

program::Expression place_of(const at::Tensor& offset) {
  return offset.defined() ? program::t() + table(offset)[program::b()] : program::t();
}

}  // namespace heed::nn
