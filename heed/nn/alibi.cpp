#include "heed/nn/alibi.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp2.h>

#include <bit>
#include <ostream>

#include "heed/nn/heads.h"
#include "heed/ops/score_program.h"

namespace heed::nn {

AlibiImpl::AlibiImpl(const AlibiOptions& options) {
  check_heads("Alibi", options.heads);
  slopes_ = alibi_slopes(options.heads);
}

program::Expression AlibiImpl::score_mod(const program::Expression& score, AttentionHeads& heads) {
  return score - table(slopes_)[program::h()] * abs(place_of(heads.offset) - program::s());
}

void AlibiImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::Alibi(heads=" << slopes_.size(0) << ")";
}

at::Tensor alibi_slopes(int64_t heads) {
  const auto n = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  const at::Tensor first = at::exp2(at::arange(1, n + 1, at::kDouble) * (-8.0 / n));
  const at::Tensor between = at::exp2(at::arange(1, 2 * n, 2, at::kDouble) * (-4.0 / n));
  return at::cat({first, between.narrow(0, 0, heads - n)});
}

}  // namespace heed::nn
