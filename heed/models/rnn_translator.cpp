#include "heed/models/rnn_translator.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/init.h>
#include <torch/nn/utils/rnn.h>

#include <cmath>

#include "heed/data/error.h"

namespace heed::models {
namespace {

std::vector<at::Tensor> select_rows(const std::vector<at::Tensor>& tensors,
                                    const at::Tensor& rows) {
  std::vector<at::Tensor> selected;
  for (const at::Tensor& tensor : tensors) selected.push_back(tensor.index_select(0, rows));
  return selected;
}

// Recurrent matrices start orthogonal, gate by gate, so that long sentences keep their gradient.
template <class Recurrent>
void orthogonal_recurrent_weights(Recurrent& module) {
  for (auto& item : module->named_parameters()) {
    if (item.key().rfind("weight_hh", 0) != 0) continue;
    const int64_t size = item.value().size(1);
    for (int64_t row = 0; row < item.value().size(0); row += size) {
      torch::nn::init::orthogonal_(item.value().narrow(0, row, size));
    }
  }
}

// Attention starts as torch's linear layers do, like all around it: from v = 0, as in Bahdanau's
// paper, nothing but v would move in the first step.
void start_as_linear_layers(torch::nn::Module& attention, int64_t query_size) {
  for (at::Tensor& parameter : attention.parameters()) {
    const int64_t inputs = parameter.dim() > 1 ? parameter.size(1) : query_size;
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    torch::nn::init::uniform_(parameter, -bound, bound);
  }
}

void check_options(const RnnTranslatorOptions& o) {
  if (o.cell != "gru" && o.cell != "lstm") {
    throw UserError("model.cell: expected gru or lstm, got '" + o.cell + "'");
  }
  if (o.attention != "additive" && o.attention != "general" && o.attention != "dot") {
    throw UserError("model.attention: expected additive, general or dot, got '" + o.attention +
                    "'");
  }
  if (o.attention == "dot" && o.decoder_size != 2 * o.encoder_size) {
    throw UserError("model.decoder_size: dot attention needs 2 x encoder_size = " +
                    std::to_string(2 * o.encoder_size) + ", got " + std::to_string(o.decoder_size));
  }
}

}  // namespace

SourceMemory SourceMemory::select(const at::Tensor& rows) const {
  return {keys.index_select(0, rows), values.index_select(0, rows), lengths.index_select(0, rows)};
}

DecoderState DecoderState::select(const at::Tensor& rows) const {
  return {select_rows(hidden, rows), select_rows(cell, rows), feed.index_select(0, rows)};
}

RnnTranslatorImpl::RnnTranslatorImpl(const RnnTranslatorOptions& options) : options_(options) {
  check_options(options);
  const auto& o = options_;
  const int64_t E = o.embedding_size, M = 2 * o.encoder_size;
  source_embedding_ =
      register_module("source_embedding", torch::nn::Embedding(o.source_vocabulary, E));
  target_embedding_ =
      register_module("target_embedding", torch::nn::Embedding(o.target_vocabulary, E));
  // Rows of length about 1, scaled up by sqrt(E) where they are read (Vaswani 2017, section 3.4),
  // so that a tied output starts with logits of order 1.
  for (auto& table : {source_embedding_, target_embedding_}) {
    torch::nn::init::normal_(table->weight, 0, std::pow(static_cast<double>(E), -0.5));
  }
  const double between_layers = o.encoder_layers > 1 ? o.dropout : 0;
  if (o.cell == "gru") {
    gru_encoder_ =
        register_module("encoder", torch::nn::GRU(torch::nn::GRUOptions(E, o.encoder_size)
                                                      .num_layers(o.encoder_layers)
                                                      .dropout(between_layers)
                                                      .bidirectional(true)));
    orthogonal_recurrent_weights(gru_encoder_);
  } else {
    lstm_encoder_ =
        register_module("encoder", torch::nn::LSTM(torch::nn::LSTMOptions(E, o.encoder_size)
                                                       .num_layers(o.encoder_layers)
                                                       .dropout(between_layers)
                                                       .bidirectional(true)));
    orthogonal_recurrent_weights(lstm_encoder_);
  }
  for (int64_t layer = 0; layer < o.decoder_layers; ++layer) {
    const int64_t input = layer == 0 ? 2 * E : o.decoder_size;
    const std::string name = "decoder_" + std::to_string(layer);
    if (o.cell == "gru") {
      gru_cells_.push_back(register_module(name, torch::nn::GRUCell(input, o.decoder_size)));
      orthogonal_recurrent_weights(gru_cells_.back());
    } else {
      lstm_cells_.push_back(register_module(name, torch::nn::LSTMCell(input, o.decoder_size)));
      orthogonal_recurrent_weights(lstm_cells_.back());
    }
  }
  initial_state_ =
      register_module("initial_state", torch::nn::Linear(M, o.decoder_layers * o.decoder_size));
  if (o.attention == "additive") {
    additive_ = register_module(
        "attention", nn::AdditiveAttention(nn::AdditiveAttentionOptions{
                         .query_size = o.decoder_size, .key_size = M, .size = o.attention_size}));
    start_as_linear_layers(*additive_, o.decoder_size);
  } else if (o.attention == "general") {
    general_ = register_module("attention", nn::GeneralAttention(nn::GeneralAttentionOptions{
                                                .query_size = o.decoder_size, .key_size = M}));
    start_as_linear_layers(*general_, o.decoder_size);
  } else {
    dot_ = register_module("attention", nn::DotAttention(nn::DotAttentionOptions{.scaled = false}));
  }
  readout_ = register_module("readout", torch::nn::Linear(o.decoder_size + M, E));
  if (!o.tie_output) {
    output_ = register_module(
        "output", torch::nn::Linear(torch::nn::LinearOptions(E, o.target_vocabulary).bias(false)));
  }
  output_bias_ = register_parameter("output_bias", at::zeros({o.target_vocabulary}));
}

at::Tensor RnnTranslatorImpl::dropped(const at::Tensor& x) const {
  return at::dropout(x, options_.dropout, is_training());
}

at::Tensor RnnTranslatorImpl::embed(torch::nn::Embedding& table, const at::Tensor& ids) {
  return dropped(table(ids) * std::sqrt(static_cast<double>(options_.embedding_size)));
}

at::Tensor RnnTranslatorImpl::run_encoder(const at::Tensor& embedded, const at::Tensor& lengths) {
  namespace rnn = torch::nn::utils::rnn;
  const auto packed = rnn::pack_padded_sequence(embedded, lengths, /*batch_first=*/true,
                                                /*enforce_sorted=*/false);
  const auto output = gru_encoder_ ? std::get<0>(gru_encoder_->forward_with_packed_input(packed))
                                   : std::get<0>(lstm_encoder_->forward_with_packed_input(packed));
  return std::get<0>(rnn::pad_packed_sequence(output, /*batch_first=*/true, /*padding_value=*/0.0,
                                              embedded.size(1)));  // [B,S,M]
}

std::pair<SourceMemory, DecoderState> RnnTranslatorImpl::encode(const at::Tensor& source,
                                                                const at::Tensor& lengths) {
  const at::Tensor values = dropped(run_encoder(embed(source_embedding_, source), lengths));
  const at::Tensor mean = values.sum(1) / lengths.unsqueeze(1);  // [B,M]
  const at::Tensor initial = at::tanh(initial_state_(mean));     // [B,layers*size]
  DecoderState state;
  for (int64_t layer = 0; layer < options_.decoder_layers; ++layer) {
    state.hidden.push_back(initial.narrow(1, layer * options_.decoder_size, options_.decoder_size));
    if (options_.cell == "lstm") state.cell.push_back(at::zeros_like(state.hidden.back()));
  }
  state.feed = at::zeros({source.size(0), options_.embedding_size});
  return {SourceMemory{attention_keys(values), values, lengths}, state};
}

at::Tensor RnnTranslatorImpl::attention_keys(const at::Tensor& values) {
  if (additive_) return additive_->keys(values);
  return general_ ? general_->keys(values) : values;
}

nn::AttentionOutput RnnTranslatorImpl::attend(const at::Tensor& query, const SourceMemory& memory,
                                              nn::Weights weights) {
  if (additive_) return additive_(query, memory.keys, memory.values, memory.lengths, weights);
  if (general_) return general_(query, memory.keys, memory.values, memory.lengths, weights);
  return dot_(query, memory.keys, memory.values, memory.lengths, weights);
}

at::Tensor RnnTranslatorImpl::advance(const at::Tensor& embedded, const SourceMemory& memory,
                                      DecoderState& state, at::Tensor* weights) {
  at::Tensor below = at::cat({embedded, state.feed}, 1);  // [B,2E]
  for (size_t layer = 0; layer < state.hidden.size(); ++layer) {
    if (layer > 0) below = dropped(below);
    if (options_.cell == "gru") {
      state.hidden[layer] = gru_cells_[layer](below, state.hidden[layer]);
    } else {
      std::tie(state.hidden[layer], state.cell[layer]) =
          lstm_cells_[layer](below, std::tuple(state.hidden[layer], state.cell[layer]));
    }
    below = state.hidden[layer];
  }
  const auto attended =
      attend(below.unsqueeze(1), memory, weights ? nn::Weights::kReturn : nn::Weights::kNone);
  if (weights != nullptr) *weights = attended.weights.squeeze(1);
  const at::Tensor context = attended.output.squeeze(1);  // [B,M]
  state.feed = dropped(at::tanh(readout_(at::cat({below, context}, 1))));
  return state.feed;
}

at::Tensor RnnTranslatorImpl::step(const at::Tensor& tokens, const SourceMemory& memory,
                                   DecoderState& state, at::Tensor* weights) {
  return advance(embed(target_embedding_, tokens), memory, state, weights);
}

at::Tensor RnnTranslatorImpl::logits(const at::Tensor& readout) {
  return at::linear(readout, output_ ? output_->weight : target_embedding_->weight, output_bias_);
}

at::Tensor RnnTranslatorImpl::forward(const at::Tensor& source, const at::Tensor& lengths,
                                      const at::Tensor& target_in) {
  auto [memory, state] = encode(source, lengths);
  const at::Tensor embedded = embed(target_embedding_, target_in);  // [B,T,E]
  std::vector<at::Tensor> readouts;
  for (const at::Tensor& token : embedded.unbind(1)) {
    readouts.push_back(advance(token, memory, state, nullptr));
  }
  return at::stack(readouts, 1);  // [B,T,E]
}

}  // namespace heed::models
