// The recurrent encoder-decoder with attention (Bahdanau 2015) and input feeding (Luong 2015): a
// bidirectional GRU or LSTM reads the source, a decoder attends to it at every step.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/pimpl.h>

#include <string>
#include <vector>

#include "heed/nn/additive_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"

namespace heed::models {

struct RnnTranslatorOptions {
  int64_t source_vocabulary = 0, target_vocabulary = 0;  // set from the subwords
  std::string cell = "gru";                              // gru or lstm
  std::string attention =
      "additive";                // additive, general or dot (then decoder_size = 2 encoder_size)
  int64_t embedding_size = 256;  // E, of both languages and of the attentional state
  int64_t encoder_size = 256;    // per direction
  int64_t encoder_layers = 1;
  int64_t decoder_size = 512;
  int64_t decoder_layers = 1;
  int64_t attention_size = 256;  // D of additive attention
  double dropout = 0.3;
  bool tie_output = true;  // output weights = target embedding

  template <class Visitor>
  void visit(Visitor& v) {
    v("source_vocabulary", source_vocabulary, {0, 1e7});
    v("target_vocabulary", target_vocabulary, {0, 1e7});
    v("cell", cell);
    v("attention", attention);
    v("embedding_size", embedding_size, {1, 16384});
    v("encoder_size", encoder_size, {1, 16384});
    v("encoder_layers", encoder_layers, {1, 16});
    v("decoder_size", decoder_size, {1, 16384});
    v("decoder_layers", decoder_layers, {1, 16});
    v("attention_size", attention_size, {1, 16384});
    v("dropout", dropout, {0, 0.95});
    v("tie_output", tie_output);
  }
};

// What the decoder reads of a batch of source sentences. M = 2 encoder_size.
struct SourceMemory {
  at::Tensor keys;     // [B,S,D]
  at::Tensor values;   // [B,S,M]
  at::Tensor lengths;  // [B] int64

  SourceMemory select(const at::Tensor& rows) const;  // [N] int64: any rows, also repeated
};

struct DecoderState {
  std::vector<at::Tensor> hidden;  // one a layer, [B,decoder_size]
  std::vector<at::Tensor> cell;    // LSTM only
  at::Tensor feed;                 // [B,E], the attentional state of the step before

  DecoderState select(const at::Tensor& rows) const;
};

class RnnTranslatorImpl : public torch::nn::Module {
 public:
  explicit RnnTranslatorImpl(const RnnTranslatorOptions& options);

  // source [B,S] int64 (padding behind), lengths [B] int64, each at least 1.
  std::pair<SourceMemory, DecoderState> encode(const at::Tensor& source, const at::Tensor& lengths);

  // One step for tokens [B]: moves the state on. weights, where asked for, [B,S].
  // Returns the attentional state [B,E], from which logits() are read.
  at::Tensor step(const at::Tensor& tokens, const SourceMemory& memory, DecoderState& state,
                  at::Tensor* weights = nullptr);

  at::Tensor logits(const at::Tensor& readout);  // [...,E] -> [...,target_vocabulary]

  // Teacher forcing: target_in [B,T] -> attentional states [B,T,E].
  at::Tensor forward(const at::Tensor& source, const at::Tensor& lengths,
                     const at::Tensor& target_in);

  const RnnTranslatorOptions& options() const { return options_; }

 private:
  at::Tensor dropped(const at::Tensor& x) const;
  at::Tensor embed(torch::nn::Embedding& table, const at::Tensor& ids);
  at::Tensor advance(const at::Tensor& embedded, const SourceMemory& memory, DecoderState& state,
                     at::Tensor* weights);
  at::Tensor attention_keys(const at::Tensor& values);
  nn::AttentionOutput attend(const at::Tensor& query, const SourceMemory& memory,
                             nn::Weights weights);
  at::Tensor run_encoder(const at::Tensor& embedded, const at::Tensor& lengths);

  RnnTranslatorOptions options_;
  torch::nn::Embedding source_embedding_{nullptr}, target_embedding_{nullptr};
  torch::nn::GRU gru_encoder_{nullptr};
  torch::nn::LSTM lstm_encoder_{nullptr};
  std::vector<torch::nn::GRUCell> gru_cells_;
  std::vector<torch::nn::LSTMCell> lstm_cells_;
  torch::nn::Linear initial_state_{nullptr};
  nn::AdditiveAttention additive_{nullptr};
  nn::GeneralAttention general_{nullptr};
  nn::DotAttention dot_{nullptr};
  torch::nn::Linear readout_{nullptr}, output_{nullptr};
  at::Tensor output_bias_;  // [target_vocabulary]
};
TORCH_MODULE(RnnTranslator);

}  // namespace heed::models
