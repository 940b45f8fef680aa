#include "heed/nn/hierarchical_attention.h"

#include <c10/util/Exception.h>
#include <torch/nn/utils/rnn.h>

#include <tuple>

namespace heed::nn {
namespace {

// x [B,T,E], lengths [B] -> [B,T,2 encoder_size].
at::Tensor read_both_ways(torch::nn::GRU& gru, const at::Tensor& x, const at::Tensor& lengths) {
  if (!gru) return x;
  if (!lengths.defined()) return std::get<0>(gru(x));
  namespace rnn = torch::nn::utils::rnn;
  // An empty row may not be packed; the attention after it reads none of it.
  const auto packed = rnn::pack_padded_sequence(x, lengths.clamp_min(1), /*batch_first=*/true,
                                                /*enforce_sorted=*/false);
  return std::get<0>(rnn::pad_packed_sequence(std::get<0>(gru->forward_with_packed_input(packed)),
                                              /*batch_first=*/true, /*padding_value=*/0.0,
                                              x.size(1)));
}

}  // namespace

HierarchicalAttentionImpl::HierarchicalAttentionImpl(const HierarchicalAttentionOptions& options)
    : options_(options) {
  const int64_t read = options.encoder_size;
  const int64_t width = read > 0 ? 2 * read : options.embed_size;
  const auto encoder = [&](const char* name, int64_t input_size) -> torch::nn::GRU {
    if (read == 0) return nullptr;
    return register_module(
        name, torch::nn::GRU(
                  torch::nn::GRUOptions(input_size, read).batch_first(true).bidirectional(true)));
  };
  const auto attention = [&](const char* name) {
    return register_module(name, AttentionPooling(AttentionPoolingOptions{
                                     .embed_size = width, .hidden_size = options.hidden_size}));
  };
  word_encoder_ = encoder("word_encoder", options.embed_size);
  word_attention_ = attention("word_attention");
  sentence_encoder_ = encoder("sentence_encoder", width);
  sentence_attention_ = attention("sentence_attention");
}

void HierarchicalAttentionImpl::reset_parameters() {
  if (word_encoder_) word_encoder_->reset_parameters();
  word_attention_->reset_parameters();
  if (sentence_encoder_) sentence_encoder_->reset_parameters();
  sentence_attention_->reset_parameters();
}

HierarchicalOutput HierarchicalAttentionImpl::forward(const at::Tensor& words,
                                                      const at::Tensor& word_lengths,
                                                      const at::Tensor& sentence_lengths,
                                                      Weights weights) {
  TORCH_CHECK(words.dim() == 4 && words.size(3) == options_.embed_size,
              "[HierarchicalAttention] words: expected [B,N,T,E] = [*, *, *, ", options_.embed_size,
              "], got ", words.sizes());
  const int64_t B = words.size(0), N = words.size(1);
  const at::Tensor of_words = word_lengths.defined() ? word_lengths.flatten() : word_lengths;
  const AttentionOutput pooled = word_attention_(  // [B*N,1,E'], weights [B*N,1,T]
      read_both_ways(word_encoder_, words.flatten(0, 1), of_words), of_words, weights);
  const at::Tensor sentences = pooled.output.view({B, N, -1});
  const AttentionOutput document = sentence_attention_(
      read_both_ways(sentence_encoder_, sentences, sentence_lengths), sentence_lengths, weights);
  HierarchicalOutput result{.output = document.output.squeeze(1)};
  if (weights == Weights::kReturn) {
    result.word_weights = pooled.weights.view({B, N, -1});
    result.sentence_weights = document.weights.squeeze(1);
  }
  return result;
}

void HierarchicalAttentionImpl::pretty_print(std::ostream& stream) const {
  stream << "heed::nn::HierarchicalAttention(embed_size=" << options_.embed_size
         << ", hidden_size=" << options_.hidden_size << ", encoder_size=" << options_.encoder_size
         << ")";
}

}  // namespace heed::nn
