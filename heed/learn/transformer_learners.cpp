#include "heed/learn/transformer_learners.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/symbols.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/token_embedding.h"
#include "heed/nn/transformer_decoder.h"
#include "heed/nn/transformer_encoder.h"

namespace heed::learn {
namespace {

constexpr int64_t kHiddenSize = 64;  // F

nn::TransformerLayerOptions layer_options() {
  return {.embed_size = kWidth, .heads = 1, .hidden_size = kHiddenSize, .norm_first = true};
}

nn::TokenEmbedding embedding_of(int64_t symbols, bool with_places) {
  nn::TokenEmbeddingOptions options{
      .vocabulary_size = symbols, .embed_size = kWidth, .scaled = true};
  if (with_places) {
    options.positions = torch::nn::AnyModule(
        nn::SinusoidalPositions(nn::SinusoidalPositionsOptions{.embed_size = kWidth}));
  }
  return nn::TokenEmbedding(options);
}

// --- A stack over one row ------------------------------------------------------------------------

class RowLearner : public Learner {
 public:
  explicit RowLearner(RowLearnerOptions options)
      : options_(std::move(options)),
        embedding_(register_module("embedding", embedding_of(options_.symbols, options_.places))),
        reading_(register_module("reading", torch::nn::Linear(kWidth, options_.answers))) {
    if (options_.notes > 0) {
      notes_ = register_module("notes", embedding_of(options_.notes, /*with_places=*/false));
    }
    nn::TransformerStackOptions stack{.layers = options_.layers, .layer = layer_options()};
    if (options_.distances) {
      stack.make_positions = [] {
        return nn::T5Bias(nn::T5BiasOptions{.heads = 1, .bidirectional = false}).ptr();
      };
    }
    stack_ = register_module("stack", nn::TransformerEncoder(stack));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    return asked(options_.draw(batch), purpose);
  }

  Alignment example() override {
    const AskingRow row = options_.draw(1);
    const Answers answers = asked(row, Purpose::kJudging);
    std::vector<std::string> source;
    for (int64_t s = 0; s < row.symbols.size(1); ++s) {
      source.push_back(name(row.symbols, s));
      if (row.notes.defined()) source.back() += ":" + digit(row.notes[0][s].item<int64_t>());
    }
    std::vector<std::string> target;
    for (int64_t t = row.first; t < row.symbols.size(1); ++t) {
      target.push_back(row.notes.defined() ? "." + digit(t + 1) : name(row.symbols, t));
    }
    return shown(std::move(source), std::move(target), answers.weights, answers.planted);
  }

 private:
  std::string name(const at::Tensor& symbols, int64_t place) const {
    const auto symbol = symbols[0][place].item<int64_t>();
    return options_.notes > 0 ? digit(symbol) : letter(symbol);
  }

  Answers asked(const AskingRow& row, Purpose purpose) {
    const bool judging = purpose == Purpose::kJudging;
    nn::MultiHeadAttentionCall call = options_.call;
    call.weights = weights_for(purpose);
    at::Tensor x = embedding_(row.symbols);  // [B,T,E]
    if (row.notes.defined()) x = x + notes_(row.notes);
    const nn::TransformerEncoderOutput seen = stack_->attend(x, call);
    const int64_t count = row.symbols.size(1) - row.first;
    const auto of_asked = [&](const at::Tensor& all) {
      return all.narrow(1, row.first, count).flatten(0, 1);
    };
    return {.logits = of_asked(reading_(seen.output)),
            .targets = of_asked(row.answers),
            .weights = judging ? of_asked(looked(seen.weights)) : at::Tensor(),
            .planted = of_asked(row.planted)};
  }

  // [B,T,T] of the weights [B,1,T,T] of all layers.
  at::Tensor looked(const std::vector<at::Tensor>& weights) const {
    at::Tensor product = weights.back().select(1, 0);
    if (!options_.through_all_layers) return product;
    for (size_t i = weights.size() - 1; i-- > 0;) {
      product = at::matmul(product, weights[i].select(1, 0));
    }
    return product;
  }

  RowLearnerOptions options_;
  nn::TokenEmbedding embedding_{nullptr}, notes_{nullptr};
  torch::nn::Linear reading_{nullptr};
  nn::TransformerEncoder stack_{nullptr};
};

// --- A chain written out -------------------------------------------------------------------------

constexpr int64_t kChainWords = 16, kEntries = 10, kSteps = 8;

struct Chain {
  at::Tensor entries, successors;  // [B,S] int64
  at::Tensor words;                // [B,T+1] int64, the first word and all that follow
  at::Tensor planted;              // [B,T,S] bool
};

Chain draw_chain(int64_t batch) {
  const at::Tensor cycle = draw_words(batch, kEntries, kChainWords);  // [B,S]
  const at::Tensor order = draw_orders(batch, kEntries);
  const at::Tensor words = cycle.narrow(1, 0, kSteps + 1);
  Chain chain{.entries = cycle.gather(1, order),
              .successors = cycle.gather(1, (order + 1).remainder(kEntries)),
              .words = words};
  chain.planted = words.narrow(1, 0, kSteps).unsqueeze(2).eq(chain.entries.unsqueeze(1));
  return chain;
}

class ChainLearner : public Learner {
 public:
  ChainLearner()
      : words_(register_module("words", embedding_of(kChainWords, /*with_places=*/true))),
        entries_(register_module("entries", embedding_of(kChainWords, /*with_places=*/false))),
        successors_(
            register_module("successors", embedding_of(kChainWords, /*with_places=*/false))),
        decoder_(register_module("decoder", nn::TransformerDecoder(nn::TransformerStackOptions{
                                                .layers = 1, .layer = layer_options()}))) {}

  Answers answer(int64_t batch, Purpose purpose) override {
    const Chain chain = draw_chain(batch);
    return purpose == Purpose::kJudging ? write(chain) : read(chain);
  }

  Alignment example() override {
    const Chain chain = draw_chain(1);
    const Answers answers = write(chain);
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kEntries; ++s) {
      source.push_back(letter(chain.entries[0][s].item<int64_t>()) + ">" +
                       letter(chain.successors[0][s].item<int64_t>()));
    }
    for (int64_t t = 0; t < kSteps; ++t) {
      target.push_back(letter(chain.words[0][t].item<int64_t>()));
    }
    return shown(std::move(source), std::move(target), answers.weights, answers.planted);
  }

 private:
  at::Tensor memory_of(const Chain& chain) {  // [B,S,E]
    return entries_(chain.entries) + successors_(chain.successors);
  }

  Answers read(const Chain& chain) {
    const at::Tensor x = words_(chain.words.narrow(1, 0, kSteps));  // [B,T,E]
    const at::Tensor output = decoder_(x, memory_of(chain)).output;
    return {.logits = words_->logits(output).flatten(0, 1),
            .targets = chain.words.narrow(1, 1, kSteps).flatten(),
            .planted = chain.planted.flatten(0, 1)};
  }

  Answers write(const Chain& chain) {
    nn::TransformerDecoderCache cache = decoder_->make_cache(chain.words.size(0), kSteps);
    const at::Tensor memory = memory_of(chain);
    at::Tensor word = chain.words.narrow(1, 0, 1);  // [B,1]
    std::vector<at::Tensor> logits, weights;
    for (int64_t t = 0; t < kSteps; ++t) {
      const nn::TransformerDecoderOutput step = decoder_->attend(
          words_(word, cache.lengths()), memory, {.weights = nn::Weights::kReturn}, &cache);
      logits.push_back(words_->logits(step.output));              // [B,1,V]
      weights.push_back(step.cross_weights.back().select(1, 0));  // [B,1,S]
      word = logits.back().argmax(2);
    }
    return {.logits = at::cat(logits, 1).flatten(0, 1),
            .targets = chain.words.narrow(1, 1, kSteps).flatten(),
            .weights = at::cat(weights, 1).flatten(0, 1),
            .planted = chain.planted.flatten(0, 1)};
  }

  nn::TokenEmbedding words_, entries_, successors_;
  nn::TransformerDecoder decoder_;
};

}  // namespace

std::shared_ptr<Learner> row_learner(const RowLearnerOptions& options) {
  return std::make_shared<RowLearner>(options);
}

std::shared_ptr<Learner> chain_learner() { return std::make_shared<ChainLearner>(); }

}  // namespace heed::learn
