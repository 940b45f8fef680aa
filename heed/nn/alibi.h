// Attention with linear biases (Press 2022): score - slope[h] |t - s|.
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

struct AlibiOptions {
  int64_t heads;  // H
};

class AlibiImpl : public AttentionPositionsImpl {
 public:
  explicit AlibiImpl(const AlibiOptions& options);

  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;

  void pretty_print(std::ostream& stream) const override;

 private:
  at::Tensor slopes_;  // [H] double, not learnt
};
TORCH_MODULE(Alibi);

// [H]: 2^(-8 i / n), i = 1 .. n, for n heads, a power of 2; else those of the power below, then
// every other one of the power above.
at::Tensor alibi_slopes(int64_t heads);

}  // namespace heed::nn
