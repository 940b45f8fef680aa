// Relative positions of Transformer-XL (Dai 2019): score = scale ((q[t] + u) k[s] + (q[t] + w) W
// r[t - s]), r[d] = (sin(d f_i), cos(d f_i))_i, f_i = base^(-2i/E); also XLNet's (Yang 2019).
#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <utility>

#include "heed/nn/attention_positions.h"

namespace heed::nn {

struct TransformerXLPositionsOptions {
  int64_t embed_size;     // E, the width of r, even
  int64_t heads;          // H
  int64_t head_size = 0;  // D; 0 means E / H
  double base = 10000;
};

// (q + w) W r of all distances is a table [B,H,T,T + S - 1]. Where that is wider than 8 E, the
// sum formula of sine and cosine takes r[t - s] apart into a factor of t and one of s: then the
// score is one product of rows of the width D + E, and memory O(B H T (D + E)) for any S.
class TransformerXLPositionsImpl : public AttentionPositionsImpl {
 public:
  explicit TransformerXLPositionsImpl(const TransformerXLPositionsOptions& options);

  // Normal with deviation 0.02, as the paper's own program.
  void reset_parameters();

  program::Expression score_mod(const program::Expression& score, AttentionHeads& heads) override;

  void pretty_print(std::ostream& stream) const override;

 private:
  // sin and cos [...,E/2] of the places [...].
  std::pair<at::Tensor, at::Tensor> waves(const at::Tensor& places, at::ScalarType type) const;
  void widen(AttentionHeads& heads, const at::Tensor& q_position);

  TransformerXLPositionsOptions options_;
  torch::nn::Linear projection_{nullptr};    // W, [H*D,E]
  at::Tensor content_bias_, position_bias_;  // u and w, [H,D]
};
TORCH_MODULE(TransformerXLPositions);

}  // namespace heed::nn
