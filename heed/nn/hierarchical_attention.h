// Hierarchical attention (Yang 2016): over the words of each sentence, then over sentences.
//
//   sentence[i] = sum_t softmax_t(<u_w, tanh(W_w h[i,t] + b_w)>) h[i,t], the document likewise,
//
// where h is what a bidirectional GRU read at each level.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/pimpl.h>

#include <ostream>

#include "heed/nn/attention_output.h"
#include "heed/nn/attention_pooling.h"

namespace heed::nn {

struct HierarchicalAttentionOptions {
  int64_t embed_size;        // E, width of a word
  int64_t hidden_size;       // of the hidden layers of both attentions
  int64_t encoder_size = 0;  // of each direction of both GRUs; 0: none, for words in context
};

struct HierarchicalOutput {
  at::Tensor output;            // [B,E'], E' = 2 encoder_size, or E without GRUs
  at::Tensor word_weights;      // [B,N,T], of the words of each sentence; if asked for
  at::Tensor sentence_weights;  // [B,N]
};

class HierarchicalAttentionImpl : public torch::nn::Module {
 public:
  explicit HierarchicalAttentionImpl(const HierarchicalAttentionOptions& options);

  void reset_parameters();

  // words [B,N,T,E]; word_lengths [B,N] int64, words of each sentence; sentence_lengths [B] int64,
  // sentences of each document. Undefined: all.
  HierarchicalOutput forward(const at::Tensor& words, const at::Tensor& word_lengths = {},
                             const at::Tensor& sentence_lengths = {},
                             Weights weights = Weights::kNone);

  void pretty_print(std::ostream& stream) const override;

 private:
  HierarchicalAttentionOptions options_;
  torch::nn::GRU word_encoder_{nullptr}, sentence_encoder_{nullptr};  // null without GRUs
  AttentionPooling word_attention_{nullptr}, sentence_attention_{nullptr};
};
TORCH_MODULE(HierarchicalAttention);

}  // namespace heed::nn
