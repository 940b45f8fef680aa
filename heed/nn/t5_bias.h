// The position bias of T5 (Raffel 2020): score + bias[bucket(s - t), h], near distances with a
// bucket each, far ones sharing wider ones.
#pragma once

#include <torch/nn/pimpl.h>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

struct T5BiasOptions {
  int64_t heads;               // H
  int64_t buckets = 32;        // half of a side's are exact, the others grow by a constant factor
  int64_t max_distance = 128;  // from which on all distances share a bucket
  // Half of the buckets for keys after the query; false: all for keys up to it, and keys after it
  // count as distance 0.
  bool bidirectional = true;
};

// T5 itself does not scale its products: MultiHeadAttentionOptions{.scale = 1.0}.
class T5BiasImpl : public AttentionPositionsImpl {
 public:
  explicit T5BiasImpl(const T5BiasOptions& options);

  // Zero: no distance is preferred at first.
  void reset_parameters();

  // ahead = s - t [...] -> the bucket [...] int64.
  at::Tensor buckets_of(const at::Tensor& ahead) const;

  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;

  void pretty_print(std::ostream& stream) const override;

 private:
  T5BiasOptions options_;
  at::Tensor bias_;     // [buckets,H]
  at::Tensor buckets_;  // [2 max_distance + 1] int64, of the distances that there are
};
TORCH_MODULE(T5Bias);

}  // namespace heed::nn
