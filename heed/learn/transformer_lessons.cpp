// Lessons of the Transformer's blocks: what one attention can't do, two in a row can.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/linear.h>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/token_embedding.h"
#include "heed/nn/transformer_decoder.h"
#include "heed/nn/transformer_encoder.h"

namespace heed::learn {
namespace {

using nn::Weights;

constexpr int64_t kModelSize = 32;   // E
constexpr int64_t kHiddenSize = 64;  // F
constexpr int64_t kWords = 16, kPlainDigits = 10;

nn::TransformerLayerOptions layer_options() {
  return {.embed_size = kModelSize, .heads = 1, .hidden_size = kHiddenSize, .norm_first = true};
}

nn::TokenEmbedding embedding_of(int64_t symbols, bool with_places) {
  nn::TokenEmbeddingOptions options{
      .vocabulary_size = symbols, .embed_size = kModelSize, .scaled = true};
  if (with_places) {
    options.positions = torch::nn::AnyModule(
        nn::SinusoidalPositions(nn::SinusoidalPositionsOptions{.embed_size = kModelSize}));
  }
  return nn::TokenEmbedding(options);
}

// [B,n], in each row a random order of 0 ... n-1.
at::Tensor shuffled(int64_t batch, int64_t n) {
  return at::rand({batch, n}).argsort(/*dim=*/1, /*descending=*/false);
}

// --- A stack over one row ----------------------------------------------------------------------

// Each place t >= first of a row asks for answers[t].
struct Row {
  at::Tensor symbols;  // [B,T] int64
  at::Tensor answers;  // [B,T] int64
  at::Tensor planted;  // [B,T,T] bool
  int64_t first = 0;
  at::Tensor notes = {};  // [B,T] int64, a second symbol beside each; undefined: there is none
};

struct RowLearnerOptions {
  std::function<Row(int64_t batch)> draw;
  int64_t symbols, notes = 0, answers;  // sizes of the alphabets
  int64_t layers;
  bool places = false;     // added to the symbols
  bool distances = false;  // known to each layer's attention
  nn::MultiHeadAttentionCall call = {};
  // What a place has seen by way of all layers, the product of their weights (Abnar 2020);
  // otherwise what the last layer looks at.
  bool through_all_layers = false;
};

class RowLearner : public Learner {
 public:
  explicit RowLearner(RowLearnerOptions options)
      : options_(std::move(options)),
        embedding_(register_module("embedding", embedding_of(options_.symbols, options_.places))),
        reading_(register_module("reading", torch::nn::Linear(kModelSize, options_.answers))) {
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
    const Row row = options_.draw(1);
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

  Answers asked(const Row& row, Purpose purpose) {
    const bool judging = purpose == Purpose::kJudging;
    nn::MultiHeadAttentionCall call = options_.call;
    call.weights = judging ? Weights::kReturn : Weights::kNone;
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

std::function<std::shared_ptr<Learner>()> row_learner(const RowLearnerOptions& options) {
  return [options] { return std::make_shared<RowLearner>(options); };
}

// --- Sorting -----------------------------------------------------------------------------------

constexpr int64_t kSorted = 6, kSortedNumbers = 12;

Row draw_numbers_to_sort(int64_t batch) {
  const at::Tensor numbers = shuffled(batch, kSortedNumbers).narrow(1, 0, kSorted);  // [B,S]
  const at::Tensor digits = at::randint(kPlainDigits, {batch, kSorted}, at::kLong);
  const at::Tensor place = numbers.argsort(/*dim=*/1, /*descending=*/false);
  return {.symbols = numbers,
          .answers = digits.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(kSorted)),
          .notes = digits};
}

RowLearnerOptions sorting(int64_t layers) {
  return {.draw = draw_numbers_to_sort,
          .symbols = kSortedNumbers,
          .notes = kPlainDigits,
          .answers = kPlainDigits,
          .layers = layers,
          .places = true};
}

// --- Induction ---------------------------------------------------------------------------------

constexpr int64_t kText = 10, kRepeated = 4;

// Letters, all different; then some of them once more, each asking for what followed it.
Row draw_induction(int64_t batch) {
  const at::Tensor text = shuffled(batch, kWords).narrow(1, 0, kText);          // [B,10]
  const at::Tensor place = shuffled(batch, kText - 1).narrow(1, 0, kRepeated);  // [B,4]
  const at::Tensor row = at::cat({text, text.gather(1, place)}, 1);             // [B,14]
  const at::Tensor following = at::cat({at::zeros({batch, kText}, at::kLong), place + 1}, 1);
  return {.symbols = row,
          .answers = row.gather(1, following),
          .planted = following.unsqueeze(2).eq(at::arange(kText + kRepeated)),
          .first = kText};
}

RowLearnerOptions induction(int64_t layers) {
  return {.draw = draw_induction,
          .symbols = kWords,
          .answers = kWords,
          .layers = layers,
          .distances = true,
          .call = {.causal = Causal::kTopLeft}};
}
const char* const kInduction =
    "A row of letters, and some of them once more: which letter followed that one before?";

// --- Farther than a window ---------------------------------------------------------------------

constexpr int64_t kRow = 14, kOffset = 6, kWindow = 3, kLetters = 10;

Row draw_far_copy(int64_t batch) {
  const Symbols symbols = draw_offset(batch, kRow, kOffset, kLetters);
  return {.symbols = symbols.keys,
          .answers = symbols.answers,
          .planted = symbols.planted,
          .first = kOffset};
}

RowLearnerOptions far_copy(int64_t layers) {
  return {.draw = draw_far_copy,
          .symbols = kLetters,
          .answers = kLetters,
          .layers = layers,
          .distances = true,
          .call = {.causal = Causal::kTopLeft, .window = {.left = kWindow, .right = 0}},
          .through_all_layers = true};
}
const char* const kFarCopy = "Which letter stands six places back? A layer sees three.";

// --- A chain written out -----------------------------------------------------------------------

constexpr int64_t kEntries = 10, kSteps = 8;

struct Chain {
  at::Tensor entries, successors;  // [B,S] int64
  at::Tensor words;                // [B,T+1] int64, the first word and all that follow
  at::Tensor planted;              // [B,T,S] bool
};

Chain draw_chain(int64_t batch) {
  const at::Tensor cycle = shuffled(batch, kWords).narrow(1, 0, kEntries);  // [B,S]
  const at::Tensor order = shuffled(batch, kEntries);
  const at::Tensor words = cycle.narrow(1, 0, kSteps + 1);
  Chain chain{.entries = cycle.gather(1, order),
              .successors = cycle.gather(1, (order + 1).remainder(kEntries)),
              .words = words};
  chain.planted = words.narrow(1, 0, kSteps).unsqueeze(2).eq(chain.entries.unsqueeze(1));
  return chain;
}

// Trained on chains that are given; judged by those that it writes, word by word, with its cache.
class ChainLearner : public Learner {
 public:
  ChainLearner()
      : words_(register_module("words", embedding_of(kWords, /*with_places=*/true))),
        entries_(register_module("entries", embedding_of(kWords, /*with_places=*/false))),
        successors_(register_module("successors", embedding_of(kWords, /*with_places=*/false))),
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
          words_(word, cache.lengths()), memory, {.weights = Weights::kReturn}, &cache);
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

std::vector<Lesson> transformer_lessons() {
  const std::string page = "transformer";
  return {
      {.name = "encoder",
       .mechanism = "Transformer encoder, Vaswani 2017",
       .page = page,
       .task = "Entries number:digit stand in any order; place t asks for the digit of the t-th "
               "smallest number: one layer finds out how many are smaller, the next looks there.",
       .make = row_learner(sorting(2)),
       .steps = 1200},
      {.name = "encoder_one_layer",
       .mechanism = "Transformer encoder, one layer",
       .page = page,
       .task = "The same: the digit of the t-th smallest number.",
       .make = row_learner(sorting(1)),
       .steps = 600,
       .cannot = "Which number is the t-th is a matter of all the others, and a single layer looks "
                 "at each before it knows of them.",
       .most_accuracy = 0.8},
      {.name = "decoder",
       .mechanism = "Transformer decoder with caches, Vaswani 2017",
       .page = page,
       .task = "Each entry is a word and its successor; from a first word on the decoder writes "
               "the chain of successors, looking up each word that it wrote itself.",
       .make = [] { return std::make_shared<ChainLearner>(); },
       .steps = 500},
      {.name = "induction",
       .mechanism = "causal self-attention, two layers (induction heads, Olsson 2022)",
       .page = page,
       .task = kInduction,
       .make = row_learner(induction(2)),
       .steps = 600},
      {.name = "induction_one_layer",
       .mechanism = "causal self-attention, one layer",
       .page = page,
       .task = kInduction,
       .make = row_learner(induction(1)),
       .steps = 300,
       .cannot = "The place to look at is known by the letter before it, and a key of the first "
                 "layer knows of its own letter alone."},
      {.name = "window_stack",
       .mechanism = "causal self-attention within a window, two layers",
       .page = page,
       .task = kFarCopy,
       .make = row_learner(far_copy(2)),
       .steps = 500},
      {.name = "window_one_layer",
       .mechanism = "causal self-attention within a window, one layer",
       .page = page,
       .task = kFarCopy,
       .make = row_learner(far_copy(1)),
       .steps = 300,
       .cannot = "The window ends before the place: nothing that stands there can pass."},
  };
}

}  // namespace heed::learn
