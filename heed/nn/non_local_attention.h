// Self-attention on feature maps (Wang 2018, non-local; Zhang 2019, SAGAN): output = x + gamma W_o
// y, y[t] = sum_s softmax_s(scale q[t] k[s]) v[s] over all pixels s, gamma 0 at first.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "heed/nn/attention_output.h"
#include "heed/nn/relative_positions_2d.h"

namespace heed::nn {

// kDot has no softmax: y[t] = sum_s q[t] k[s] v[s] / S, which the products regroup into
// q[t] (sum_s k[s] v[s]^T) / S where that is less work.
enum class NonLocalScore { kEmbeddedGaussian, kDot };

// Wang: the defaults. Zhang: {.channels = C, .key_channels = C / 8, .value_channels = C / 2,
// .pool = 2}.
struct NonLocalAttentionOptions {
  int64_t channels;            // C
  int64_t key_channels = 0;    // of queries and keys, all heads' together; 0: C / 2, at least heads
  int64_t value_channels = 0;  // of values, likewise
  int64_t heads = 1;           // H
  NonLocalScore score = NonLocalScore::kEmbeddedGaussian;
  double scale = 1;     // of the products under the softmax
  int64_t pool = 1;     // keys and values: maxima over squares of pool x pool pixels
  int64_t radius = -1;  // a query sees keys up to so many rows and columns away; -1: all
  double dropout = 0;   // probability with which a weight is dropped while training
  bool bias = true;     // of the four projections
  RelativePositions2d positions = nullptr;  // joins the scores
};

// The projections are linear layers over a pixel's channels: convolutions 1 x 1, whose weights they
// take without the last two dimensions. Memory is O(B T (C + D)): no T x S matrix.
class NonLocalAttentionImpl : public torch::nn::Module {
 public:
  explicit NonLocalAttentionImpl(const NonLocalAttentionOptions& options);

  // Glorot's uniform, biases 0, gamma 0: the module starts as the identity; positions keep theirs.
  void reset_parameters();

  // x [B,C,rows,columns] -> output of the same sizes, weights [B,H,T,S] of T = rows * columns
  // pixels; S = T, or the squares that they are pooled into.
  AttentionOutput forward(const at::Tensor& x, Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  // [B,S,*] of the projected pixels [B,T,*].
  at::Tensor pooled(const at::Tensor& rows, const at::Tensor& x) const;
  AttentionOutput attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const MapGrid& grid, Weights weights);

  NonLocalAttentionOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      value_projection_{nullptr}, output_projection_{nullptr};
  at::Tensor gamma_;  // [1]
};
TORCH_MODULE(NonLocalAttention);

}  // namespace heed::nn
