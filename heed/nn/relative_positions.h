// Relative position representations (Shaw 2018): score = scale q[t] (k[s] + a[r]), out[t] =
// sum_s p[t,s] (v[s] + c[r]), r = clip(s - t, +-max_distance).
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

struct RelativePositionsOptions {
  int64_t head_size;          // D
  int64_t max_distance = 16;  // k
  bool values = true;         // whether there is c
  int64_t value_size = 0;     // Dv; 0 means D
};

// The products q a are a table [B,H,T,2 k + 1]. For c the attention runs over its keys once more,
// in the parts r = -k, -k < r < k and r = k, with values that tell distances apart: O(B H T (D +
// k)) memory in all.
class RelativePositionsImpl : public AttentionPositionsImpl {
 public:
  explicit RelativePositionsImpl(const RelativePositionsOptions& options);

  // Glorot's uniform, as the paper's own program.
  void reset_parameters();

  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;
  at::Tensor with_values(const at::Tensor& out, const at::Tensor& lse, const AttentionHeads& heads,
                         const AttendPart& attend) override;

  void pretty_print(std::ostream& stream) const override;

 private:
  RelativePositionsOptions options_;
  at::Tensor key_table_;    // [2 k + 1,D], shared among heads
  at::Tensor value_table_;  // [2 k + 1,Dv], or undefined
};
TORCH_MODULE(RelativePositions);

}  // namespace heed::nn
