// Relative position representations (Shaw 2018): score = scale q[t] (k[s] + a[r]), out[t] =
// sum_s p[t,s] (v[s] + c[r]), r = clip(s - t, +-max_distance).
#pragma once

#include <torch/nn/pimpl.h>

#include <utility>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

struct RelativePositionsOptions {
  int64_t head_size;          // D
  int64_t max_distance = 16;  // k
  bool values = true;         // whether there is c
  int64_t value_size = 0;     // Dv; 0 means D
};

// The products q a are a table [B,H,T,2 k + 1]. For c the weights of a row are summed by distance:
// they are the output of rows of the identity as values where keys are few, else of attention once
// more over the parts -k < r < k and r = k with values that tell distances apart. O(B H T (D + k))
// memory in all.
class RelativePositionsImpl : public AttentionPositionsImpl {
 public:
  explicit RelativePositionsImpl(const RelativePositionsOptions& options);

  // Glorot's uniform, as the paper's own program.
  void reset_parameters();

  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;
  at::Tensor mix(const AttentionHeads& heads, const at::Tensor& values,
                 const AttendPart& attend) override;

  void pretty_print(std::ostream& stream) const override;

 private:
  // Each gives out [B,H,T,Dv] of the values alone, and the sums of each row's weights by distance
  // [B,H,T,2 k + 1].
  std::pair<at::Tensor, at::Tensor> by_weights(const AttentionHeads& heads,
                                               const at::Tensor& values,
                                               const AttendPart& attend) const;
  std::pair<at::Tensor, at::Tensor> by_parts(const AttentionHeads& heads, const at::Tensor& values,
                                             const AttendPart& attend) const;

  RelativePositionsOptions options_;
  at::Tensor key_table_;    // [2 k + 1,D], shared among heads
  at::Tensor value_table_;  // [2 k + 1,Dv], or undefined
};
TORCH_MODULE(RelativePositions);

}  // namespace heed::nn
