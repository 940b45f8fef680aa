// Attention over sets: the blocks of the Set Transformer (Lee 2019).
//
//   MAB(X, Y) = N(A + relu(A W)),  A = N(X' + attention(X', Y', Y')),  N layer norm
//   SAB(X) = MAB(X, X);  ISAB(X) = MAB(X, MAB(I, X)), points I learnt;
//   PMA(Z) = MAB(seeds, relu(Z W)), seeds learnt
//
// X' = W_q X as in the paper's program, so that X and Y may have other widths than E; products of a
// head's rows are scaled by 1 / sqrt(E), whatever the number of heads.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"

namespace heed::nn {

struct MultiheadAttentionBlockOptions {
  int64_t embed_size;      // E, a multiple of heads
  int64_t heads;           // H
  int64_t query_size = 0;  // width of X; 0: E
  int64_t key_size = 0;    // width of Y; 0: E
  bool layer_norm = true;  // otherwise N does nothing
  double dropout = 0;      // of weights, while training
};

class MultiheadAttentionBlockImpl : public torch::nn::Module {
 public:
  explicit MultiheadAttentionBlockImpl(const MultiheadAttentionBlockOptions& options);

  void reset_parameters();

  // x [B,T,query_size], y [B,S,key_size], lengths [B] int64 of y or undefined.
  // Returns output [B,T,E], weights [B,H,T,S].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  MultiheadAttentionBlockOptions options_;
  torch::nn::Linear query_projection_{nullptr}, key_projection_{nullptr},
      value_projection_{nullptr}, feed_forward_{nullptr};
  torch::nn::LayerNorm attention_norm_{nullptr}, output_norm_{nullptr};
};
TORCH_MODULE(MultiheadAttentionBlock);

struct SetAttentionOptions {
  int64_t embed_size;      // E, a multiple of heads
  int64_t heads;           // H
  int64_t input_size = 0;  // width of X; 0: E
  bool layer_norm = true;
  double dropout = 0;  // of weights, while training
};

// Every element of a set sees every other: T x T pairs.
class SetAttentionBlockImpl : public torch::nn::Module {
 public:
  explicit SetAttentionBlockImpl(const SetAttentionOptions& options);

  void reset_parameters();

  // x [B,T,input_size], lengths [B] int64 or undefined -> [B,T,E], weights [B,H,T,T].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

 private:
  MultiheadAttentionBlock block_{nullptr};
};
TORCH_MODULE(SetAttentionBlock);

// By way of a few learnt points: 2 T * points pairs in place of T x T.
class InducedSetAttentionBlockImpl : public torch::nn::Module {
 public:
  InducedSetAttentionBlockImpl(const SetAttentionOptions& options, int64_t points);

  // The points as Xavier has it, as in the paper's program.
  void reset_parameters();

  // x [B,T,input_size], lengths [B] int64 or undefined -> [B,T,E], weights [B,H,T,points] of the
  // second attention.
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

 private:
  at::Tensor points_;  // [points,E]
  MultiheadAttentionBlock gather_{nullptr}, spread_{nullptr};
};
TORCH_MODULE(InducedSetAttentionBlock);

// A set becomes as many vectors as there are learnt seeds. options.input_size must be 0 or E.
class PoolingByMultiheadAttentionImpl : public torch::nn::Module {
 public:
  explicit PoolingByMultiheadAttentionImpl(const SetAttentionOptions& options, int64_t seeds = 1);

  // The seeds as Xavier has it, as in the paper's program.
  void reset_parameters();

  // x [B,S,E], lengths [B] int64 or undefined -> [B,seeds,E], weights [B,H,seeds,S].
  AttentionOutput forward(const at::Tensor& x, const at::Tensor& lengths = {},
                          Weights weights = Weights::kNone);

 private:
  at::Tensor seeds_;  // [seeds,E]
  torch::nn::Linear feed_forward_{nullptr};
  MultiheadAttentionBlock block_{nullptr};
};
TORCH_MODULE(PoolingByMultiheadAttention);

}  // namespace heed::nn
