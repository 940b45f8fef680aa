// Attention put together: several heads, a cache, two levels, a sentinel, coverage, pools and sets.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/additive_attention.h"
#include "heed/nn/attention_pooling.h"
#include "heed/nn/coverage_attention.h"
#include "heed/nn/hierarchical_attention.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/sentinel_attention.h"
#include "heed/nn/set_attention.h"
#include "heed/nn/t5_bias.h"

namespace heed::learn {
namespace {

constexpr int64_t kWidth = 32;  // E
constexpr int64_t kSigns = 8;   // symbols of values

at::Tensor draw_signs(at::IntArrayRef sizes) { return at::randint(kSigns, sizes, at::kLong); }

// [B,n]: in each row n of `words` different words, in any order.
at::Tensor draw_words(int64_t batch, int64_t n, int64_t words) {
  return at::rand({batch, words}).argsort(-1, /*descending=*/false).narrow(1, 0, n);
}

// Embeddings of `rows` symbols, for a learner to register.
at::Tensor embedding_table(int64_t rows) { return at::randn({rows, kWidth}); }

nn::AttentionOutput only_head(nn::AttentionOutput result) {
  if (result.weights.defined()) result.weights = result.weights.squeeze(1);
  return result;
}

std::string only_question(int64_t) { return "?"; }

// --- One row, and two ----------------------------------------------------------------------------

// Words stand in pairs, as a and A, each with a sign; every word asks for its partner's.
Symbols draw_partners(int64_t batch) {
  constexpr int64_t kPairs = 6, kKinds = 10;
  const at::Tensor kinds = draw_words(batch, kPairs, kKinds);
  const at::Tensor order = draw_words(batch, 2 * kPairs, 2 * kPairs);
  const at::Tensor row = at::cat({kinds, kinds + kKinds}, 1).gather(1, order);  // [B,S]
  const at::Tensor signs = draw_signs({batch, 2 * kPairs});
  const at::Tensor partner = (row + kKinds).remainder(2 * kKinds);
  const at::Tensor planted = partner.unsqueeze(2).eq(row.unsqueeze(1));  // [B,T,S]
  return {.query = row,
          .keys = row,
          .values = signs,
          .answers = signs.gather(1, planted.to(at::kLong).argmax(2)),
          .planted = planted};
}

Lesson self_attention_lesson() {
  return {.name = "self",
          .mechanism = "self-attention, Vaswani 2017",
          .page = "multi_head_attention",
          .task =
              "Words stand in pairs, a and A, in any order; every word asks for the sign of its "
              "partner.",
          .make = []() -> std::shared_ptr<Learner> {
            nn::MultiHeadAttention attention(
                nn::MultiHeadAttentionOptions{.embed_size = kWidth, .heads = 1});
            const auto name = [](int64_t word) {
              return word < 10 ? letter(word) : capital(word - 10);
            };
            return std::make_shared<SymbolLearner>(
                SymbolLearnerOptions{.draw = draw_partners,
                                     .query_symbols = 20,
                                     .key_symbols = 20,
                                     .value_symbols = kSigns,
                                     .size = kWidth,
                                     .query_name = name,
                                     .key_name = name,
                                     .value_name = digit},
                attention.ptr(),
                [attention](const at::Tensor&, const at::Tensor& words, const at::Tensor& signs,
                            const at::Tensor& lengths, nn::Weights weights) mutable {
                  const at::Tensor row = words + signs;
                  return only_head(attention(row, row, row, lengths, Causal::kNone, weights));
                });
          },
          .steps = 300,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson cross_attention_lesson() {
  return {
      .name = "cross",
      .mechanism = "cross-attention, Vaswani 2017",
      .page = "multi_head_attention",
      .task = "One row asks another: the sign that stands at a word's translation.",
      .make = []() -> std::shared_ptr<Learner> {
        nn::MultiHeadAttention attention(
            nn::MultiHeadAttentionOptions{.embed_size = kWidth, .heads = 1});
        return std::make_shared<SymbolLearner>(
            SymbolLearnerOptions{
                .draw = [](int64_t B) { return draw_dictionary(B, 6, 10, 16, kSigns); },
                .query_symbols = 16,
                .key_symbols = 16,
                .value_symbols = kSigns,
                .size = kWidth,
                .query_name = capital,
                .key_name = letter,
                .value_name = digit},
            attention.ptr(),
            [attention](const at::Tensor& query, const at::Tensor& words, const at::Tensor& signs,
                        const at::Tensor& lengths, nn::Weights weights) mutable {
              return only_head(attention(query, words, signs, lengths, Causal::kNone, weights));
            });
      },
      .steps = 300,
      .batch = 32,
      .learning_rate = 1e-2};
}

// --- Heads ---------------------------------------------------------------------------------------

// Every place is asked for the signs at several distances before it, all read off one output. The
// readings are linear, so that a mixture of two signs does not say which stood where.
class DistancesLearner : public Learner {
 public:
  DistancesLearner(int64_t heads, int64_t kv_heads, std::vector<int64_t> distances)
      : distances_(at::tensor(distances, at::kLong)) {
    const auto K = static_cast<int64_t>(distances.size());
    signs_ = register_parameter("signs", embedding_table(kSigns));
    attention_ = register_module(
        "attention", nn::MultiHeadAttention(nn::MultiHeadAttentionOptions{
                         .embed_size = kWidth,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .positions = nn::T5Bias(nn::T5BiasOptions{.heads = heads,
                                                                   .buckets = 12,
                                                                   .max_distance = 12,
                                                                   .bidirectional = false})
                                          .ptr()}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, K * kSigns));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    return look(draw_signs({batch, kLength}),
                purpose == Purpose::kJudging ? nn::Weights::kReturn : nn::Weights::kNone);
  }

  Alignment example() override {
    const at::Tensor row = draw_signs({1, kLength});
    const Answers answers = look(row, nn::Weights::kReturn);
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kLength; ++s) source.push_back("▁" + letter(row[0][s].item<int64_t>()));
    for (int64_t t = 0; t < kAsked; ++t) {
      for (int64_t k = 0; k < distances_.size(0); ++k) {
        target.push_back("▁-" + std::to_string(distances_[k].item<int64_t>()));
      }
    }
    return shown(std::move(source), std::move(target), answers.weights, answers.planted);
  }

 private:
  static constexpr int64_t kLength = 16, kAsked = 8;  // S, and T: the last ones

  Answers look(const at::Tensor& row, nn::Weights weights) {
    const at::Tensor x = at::embedding(signs_, row);  // [B,S,E]
    const nn::AttentionOutput seen = attention_(x.narrow(1, kLength - kAsked, kAsked), x, x,
                                                at::Tensor(), Causal::kBottomRight, weights);
    const at::Tensor place =  // [T,K]
        at::arange(kLength - kAsked, kLength).unsqueeze(1) - distances_;
    const at::Tensor planted = place.unsqueeze(2).eq(at::arange(kLength));  // [T,K,S]
    return {.logits = reading_(seen.output).view({-1, kSigns}),
            .targets = row.index_select(1, place.flatten()).flatten(),
            .weights = seen.weights.defined() ? of_questions(seen.weights, planted).flatten(0, 2)
                                              : at::Tensor(),
            .planted = planted.expand({row.size(0), -1, -1, -1}).flatten(0, 2)};
  }

  // weights [B,H,T,S] -> [B,T,K,S]: of each distance the head that looks there most.
  static at::Tensor of_questions(const at::Tensor& weights, const at::Tensor& planted) {
    const at::Tensor there = planted.transpose(0, 1);                                  // [K,T,S]
    const at::Tensor heads = (weights.unsqueeze(2) * there).sum({0, 3, 4}).argmax(0);  // [K]
    return weights.index_select(1, heads).transpose(1, 2);
  }

  at::Tensor distances_;  // [K]
  at::Tensor signs_;      // [kSigns,E]
  nn::MultiHeadAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

Lesson distances_lesson(std::string name, std::string mechanism, int64_t heads, int64_t kv_heads,
                        std::string cannot = "") {
  return {
      .name = std::move(name),
      .mechanism = std::move(mechanism),
      .page = "multi_head_attention",
      .task =
          "Which signs stood one place and three places before? Both are read off one "
          "output.",
      .make =
          [=] {
            return std::make_shared<DistancesLearner>(heads, kv_heads, std::vector<int64_t>{1, 3});
          },
      .steps = 250,
      .batch = 32,
      .learning_rate = 2e-2,
      .cannot = std::move(cannot),
      .most_accuracy = 0.75};
}

// --- Key-value cache -----------------------------------------------------------------------------

// A prompt of words with signs, then words alone, each asking for its sign: learnt over the whole
// row, judged one question at a time through a cache.
class StepsLearner : public Learner {
 public:
  StepsLearner() {
    words_ = register_parameter("words", embedding_table(kWords));
    signs_ = register_parameter("signs", embedding_table(kSigns + 1));
    attention_ = register_module("attention", nn::MultiHeadAttention(nn::MultiHeadAttentionOptions{
                                                  .embed_size = kWidth, .heads = 1}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns));
  }

  Answers answer(int64_t batch, Purpose purpose) override { return look(draw(batch), purpose); }

  Alignment example() override {
    const Row row = draw(1);
    const Answers answers = look(row, Purpose::kJudging);
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kPrompt + kSteps; ++s) {
      const std::string word = "▁" + letter(row.words[0][s].item<int64_t>());
      const auto sign = row.signs[0][s].item<int64_t>();
      source.push_back(word + (sign < kSigns ? ":" + digit(sign) : "?"));
      if (s >= kPrompt) target.push_back(word + "?");
    }
    return shown(std::move(source), std::move(target), answers.weights, answers.planted);
  }

 private:
  static constexpr int64_t kWords = 12, kPrompt = 8, kSteps = 6;

  struct Row {
    at::Tensor words, signs;  // [B,prompt + steps]; sign kSigns: a question
    at::Tensor place;         // [B,steps], of the answers
  };

  static Row draw(int64_t batch) {
    const at::Tensor words = draw_words(batch, kPrompt, kWords),
                     signs = draw_signs({batch, kPrompt});
    const at::Tensor place = at::randint(kPrompt, {batch, kSteps}, at::kLong);
    return {.words = at::cat({words, words.gather(1, place)}, 1),
            .signs = at::cat({signs, at::full_like(place, kSigns)}, 1),
            .place = place};
  }

  Answers look(const Row& row, Purpose purpose) {
    const at::Tensor x = at::embedding(words_, row.words) + at::embedding(signs_, row.signs);
    const nn::AttentionOutput seen = purpose == Purpose::kJudging ? step_by_step(x) : at_once(x);
    return {.logits = reading_(seen.output).flatten(0, 1),
            .targets = row.signs.gather(1, row.place).flatten(),
            .weights = seen.weights.defined() ? seen.weights.flatten(0, 1) : at::Tensor(),
            .planted = row.place.unsqueeze(2).eq(at::arange(kPrompt + kSteps)).flatten(0, 1)};
  }

  // x [B,prompt + steps,E] -> output [B,steps,E].
  nn::AttentionOutput at_once(const at::Tensor& x) {
    const at::Tensor output = attention_(x, x, x, at::Tensor(), Causal::kTopLeft).output;
    return {.output = output.narrow(1, kPrompt, kSteps), .weights = {}};
  }

  // The same, and weights [B,steps,prompt + steps].
  nn::AttentionOutput step_by_step(const at::Tensor& x) {
    nn::KeyValueCache cache = attention_->make_cache(x.size(0), kPrompt + kSteps);
    const auto append = [&](int64_t first, int64_t count) {
      const at::Tensor rows = x.narrow(1, first, count);
      return attention_->attend(
          rows, rows, rows,
          {.causal = Causal::kTopLeft, .cache = &cache, .weights = nn::Weights::kReturn});
    };
    append(0, kPrompt);
    std::vector<at::Tensor> outputs, weights;
    for (int64_t s = kPrompt; s < kPrompt + kSteps; ++s) {
      const nn::AttentionOutput seen = append(s, 1);
      outputs.push_back(seen.output);
      weights.push_back(  // the rows to come have no weight
          at::pad(seen.weights.squeeze(1), {0, kPrompt + kSteps - seen.weights.size(3)}));
    }
    return {.output = at::cat(outputs, 1), .weights = at::cat(weights, 1)};
  }

  at::Tensor words_, signs_;  // [kWords,E], [kSigns + 1,E]
  nn::MultiHeadAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

Lesson cache_lesson() {
  return {.name = "cache",
          .mechanism = "key-value cache, Shazeer 2019",
          .page = "key_value_cache",
          .task =
              "A prompt of words with signs, then words that ask for theirs: learnt at once, "
              "judged step by step.",
          .make = [] { return std::make_shared<StepsLearner>(); },
          .steps = 300,
          .batch = 32,
          .learning_rate = 2e-2};
}

// --- Two levels ----------------------------------------------------------------------------------

// Every sentence has one noun; where one of a document's nouns is marked, its sign is asked for.
// Of the documents some have no mark, so that "not found" stands for no sign.
class DocumentLearner : public Learner {
 public:
  DocumentLearner() {
    signs_ = register_parameter("signs", embedding_table(kSigns));
    kinds_ = register_parameter("kinds", embedding_table(kKinds));
    attention_ =
        register_module("attention", nn::HierarchicalAttention(nn::HierarchicalAttentionOptions{
                                         .embed_size = kWidth, .hidden_size = kWidth}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns + 1));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Documents documents = draw(batch);
    const nn::HierarchicalOutput seen =
        look(documents, purpose == Purpose::kJudging ? nn::Weights::kReturn : nn::Weights::kNone);
    const at::Tensor marked = documents.kinds.eq(kMarked).flatten(1);  // [B,N*T]
    return {
        .logits = reading_(seen.output),
        .targets = at::where(marked.any(1), (documents.signs.flatten(1) * marked).sum(1), kSigns),
        .weights = weights_of_words(seen),
        .planted = marked};
  }

  // A row for the words of each sentence, then one for those of the document.
  Alignment example() override {
    Documents documents = draw(1);
    while (!documents.kinds.eq(kMarked).any().item<bool>()) documents = draw(1);
    const nn::HierarchicalOutput seen = look(documents, nn::Weights::kReturn);
    const at::Tensor own = at::eye(kSentences).unsqueeze(2);                  // [N,N,1]
    const at::Tensor in_sentences = (own * seen.word_weights[0]).flatten(1);  // [N,N*T]
    const at::Tensor marked = documents.kinds.eq(kMarked).flatten();
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kSentences * kWords; ++s) {
      const std::string kinds[] = {"▁", "▁n:", "▁*:"};
      source.push_back(kinds[documents.kinds.flatten()[s].item<int64_t>()] +
                       digit(documents.signs.flatten()[s].item<int64_t>()));
    }
    for (int64_t n = 0; n < kSentences; ++n) target.push_back("▁sentence " + digit(n + 1));
    target.push_back("▁document");
    return shown(std::move(source), std::move(target),
                 at::cat({in_sentences, weights_of_words(seen)}),
                 at::cat({in_sentences.ne(0) & marked, marked.unsqueeze(0)}));
  }

 private:
  static constexpr int64_t kSentences = 4, kWords = 3;  // N, T
  enum Kind : int64_t { kPlain, kNoun, kMarked, kKinds };

  struct Documents {
    at::Tensor signs, kinds;  // [B,N,T]
  };

  static Documents draw(int64_t batch) {
    const at::Tensor noun = at::randint(kWords, {batch, kSentences, 1}, at::kLong);
    const at::Tensor sentence = at::randint(kSentences + 1, {batch, 1}, at::kLong);  // N: none
    const at::Tensor marked = sentence.eq(at::arange(kSentences)).unsqueeze(2);      // [B,N,1]
    return {.signs = draw_signs({batch, kSentences, kWords}),
            .kinds = noun.eq(at::arange(kWords)) * at::where(marked, kMarked, kNoun)};
  }

  nn::HierarchicalOutput look(const Documents& documents, nn::Weights weights) {
    return attention_(
        at::embedding(signs_, documents.signs) + at::embedding(kinds_, documents.kinds),
        at::Tensor(), at::Tensor(), weights);
  }

  // [B,N*T]: a word's weight in its sentence, times the sentence's; undefined where none returned.
  static at::Tensor weights_of_words(const nn::HierarchicalOutput& seen) {
    if (!seen.word_weights.defined()) return {};
    return (seen.word_weights * seen.sentence_weights.unsqueeze(2)).flatten(1);
  }

  at::Tensor signs_, kinds_;
  nn::HierarchicalAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

Lesson hierarchical_lesson() {
  return {.name = "hierarchical",
          .mechanism = "hierarchical attention, Yang 2016",
          .page = "hierarchical_attention",
          .task =
              "Every sentence has a noun, and one noun of the document is marked: what is its "
              "sign?",
          .make = [] { return std::make_shared<DocumentLearner>(); },
          .steps = 300,
          .learning_rate = 1e-2};
}

// --- Sentinel ------------------------------------------------------------------------------------

// A query is a word and a guess. Where the word stands in memory, so does the answer; where it does
// not, the guess is right, and the sentinel is made of it.
class GuessLearner : public Learner {
 public:
  GuessLearner() {
    queries_ = register_parameter("queries", embedding_table(kWords));
    words_ = register_parameter("words", embedding_table(kWords));
    signs_ = register_parameter("signs", embedding_table(kSigns));
    guesses_ = register_parameter("guesses", embedding_table(kSigns));
    attention_ = register_module(
        "attention",
        nn::SentinelAttention(nn::SentinelAttentionOptions{
            .query_size = kWidth, .key_size = kWidth, .value_size = kWidth, .size = 2 * kWidth}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    return look(draw(batch),
                purpose == Purpose::kJudging ? nn::Weights::kReturn : nn::Weights::kNone);
  }

  Alignment example() override {
    const Task task = draw(1);
    const Answers answers = look(task, nn::Weights::kReturn);
    const auto label = [](const std::string& word, const at::Tensor& sign) {
      return "▁" + word + ":" + digit(sign.item<int64_t>());
    };
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kMemory; ++s) {
      source.push_back(label(letter(task.words[0][s].item<int64_t>()), task.signs[0][s]));
    }
    source.push_back("▁guess");
    for (int64_t t = 0; t < kAsked; ++t) {
      target.push_back(label(capital(task.query[0][t].item<int64_t>()), task.guess[0][t]));
    }
    return shown(std::move(source), std::move(target), answers.weights, answers.planted);
  }

 private:
  static constexpr int64_t kWords = 5, kMemory = 3, kAsked = 8;  // S, T

  struct Task {
    at::Tensor words, signs;  // [B,S]
    at::Tensor query, guess;  // [B,T]
  };

  static Task draw(int64_t batch) {
    return {.words = draw_words(batch, kMemory, kWords),
            .signs = draw_signs({batch, kMemory}),
            .query = at::randint(kWords, {batch, kAsked}, at::kLong),
            .guess = draw_signs({batch, kAsked})};
  }

  Answers look(const Task& task, nn::Weights weights) {
    const nn::SentinelOutput seen = attention_(
        at::embedding(queries_, task.query), attention_->keys(at::embedding(words_, task.words)),
        at::embedding(signs_, task.signs), at::embedding(guesses_, task.guess), at::Tensor(),
        weights);
    const at::Tensor there = task.query.unsqueeze(2).eq(task.words.unsqueeze(1));  // [B,T,S]
    const at::Tensor found = there.any(2);
    const at::Tensor place = there.to(at::kLong).argmax(2);
    return {
        .logits = reading_(seen.output).flatten(0, 1),
        .targets = at::where(found, task.signs.gather(1, place), task.guess).flatten(),
        .weights = seen.weights.defined()
                       ? at::cat({seen.weights, seen.sentinel_weight.unsqueeze(2)}, 2).flatten(0, 1)
                       : at::Tensor(),
        .planted = at::cat({there, ~found.unsqueeze(2)}, 2).flatten(0, 1)};
  }

  at::Tensor queries_, words_, signs_, guesses_;
  nn::SentinelAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

Lesson sentinel_lesson() {
  return {.name = "sentinel",
          .mechanism = "adaptive attention with a sentinel, Lu 2017",
          .page = "sentinel_attention",
          .task =
              "A word's sign stands in memory; where the word is not there, the guess that came "
              "with the question is right.",
          .make = [] { return std::make_shared<GuessLearner>(); },
          .steps = 400,
          .batch = 32,
          .learning_rate = 2e-2};
}

// --- Coverage ------------------------------------------------------------------------------------

// Every step asks the same: for the next of the keys in ascending order.
Symbols draw_sorting(int64_t batch) {
  constexpr int64_t kLength = 5;
  const at::Tensor keys = draw_words(batch, kLength, kSigns), signs = draw_signs({batch, kLength});
  const at::Tensor order = keys.argsort(-1, /*descending=*/false);  // [B,T]
  return {.query = at::zeros({batch, kLength}, at::kLong),
          .keys = keys,
          .values = signs,
          .answers = signs.gather(1, order),
          .planted = order.unsqueeze(2).eq(at::arange(kLength))};
}

Lesson sorting_lesson(std::string name, std::string mechanism, std::string page,
                      std::function<std::shared_ptr<Learner>(SymbolLearnerOptions)> make,
                      std::string cannot = "") {
  return {.name = std::move(name),
          .mechanism = std::move(mechanism),
          .page = std::move(page),
          .task = "Read the keys in ascending order, one a step; every step asks the same.",
          .make =
              [make = std::move(make)] {
                return make({.draw = draw_sorting,
                             .query_symbols = 1,
                             .key_symbols = kSigns,
                             .value_symbols = kSigns,
                             .size = kWidth,
                             .query_name = only_question,
                             .key_name = letter,
                             .value_name = digit});
              },
          .steps = 400,
          .batch = 32,
          .learning_rate = 1e-2,
          .cannot = std::move(cannot)};
}

std::shared_ptr<Learner> by_coverage(SymbolLearnerOptions options) {
  nn::CoverageAttention attention(
      nn::CoverageAttentionOptions{.query_size = kWidth, .key_size = kWidth, .size = kWidth});
  return std::make_shared<SymbolLearner>(
      std::move(options), attention.ptr(),
      [attention](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                  const at::Tensor& lengths, nn::Weights) mutable -> nn::AttentionOutput {
        const nn::CoverageOutput seen = attention(query, attention->keys(memory), values, lengths);
        return {.output = seen.output, .weights = seen.weights};
      });
}

std::shared_ptr<Learner> without_coverage(SymbolLearnerOptions options) {
  nn::AdditiveAttention attention(
      nn::AdditiveAttentionOptions{.query_size = kWidth, .key_size = kWidth, .size = kWidth});
  return std::make_shared<SymbolLearner>(
      std::move(options), attention.ptr(),
      [attention](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                  const at::Tensor& lengths, nn::Weights weights) mutable {
        return attention(query, attention->keys(memory), values, lengths, weights);
      });
}

// --- Pools and sets ------------------------------------------------------------------------------

// The value of the largest of some numbers.
Symbols draw_largest(int64_t batch) {
  constexpr int64_t kCount = 10, kNumbers = 16;
  const at::Tensor numbers = draw_words(batch, kCount, kNumbers),
                   signs = draw_signs({batch, kCount});
  const at::Tensor largest = numbers.argmax(1, /*keepdim=*/true);  // [B,1]
  return {.query = at::zeros({batch, 1}, at::kLong),
          .keys = numbers,
          .values = signs,
          .answers = signs.gather(1, largest),
          .planted = largest.unsqueeze(2).eq(at::arange(kCount))};
}

Lesson attention_pooling_lesson() {
  return {.name = "attention_pooling",
          .mechanism = "pooling by attention, Yang 2016, Lin 2017",
          .page = "attention_pooling",
          .task = "Which sign stands at the largest number?",
          .make = []() -> std::shared_ptr<Learner> {
            nn::AttentionPooling pool(
                nn::AttentionPoolingOptions{.embed_size = kWidth, .hidden_size = kWidth});
            return std::make_shared<SymbolLearner>(
                SymbolLearnerOptions{.draw = draw_largest,
                                     .query_symbols = 1,
                                     .key_symbols = 16,
                                     .value_symbols = kSigns,
                                     .size = kWidth,
                                     .query_name = only_question,
                                     .key_name = digit,
                                     .value_name = letter},
                pool.ptr(),
                [pool](const at::Tensor&, const at::Tensor& numbers, const at::Tensor& signs,
                       const at::Tensor& lengths, nn::Weights weights) mutable {
                  return pool(numbers + signs, lengths, weights);
                });
          },
          .steps = 300,
          .learning_rate = 1e-2};
}

// All elements of a set are of one kind but one, whose sign is asked for.
constexpr int64_t kSetKinds = 3;
Symbols draw_odd_one(int64_t batch) {
  constexpr int64_t kElements = 8;
  const at::Tensor kind = at::randint(kSetKinds, {batch, 1}, at::kLong);
  const at::Tensor other =
      (kind + at::randint(1, kSetKinds, {batch, 1}, at::kLong)).remainder(kSetKinds);
  const at::Tensor place = at::randint(kElements, {batch, 1}, at::kLong);
  const at::Tensor odd = place.eq(at::arange(kElements));  // [B,S]
  const at::Tensor signs = draw_signs({batch, kElements});
  return {.query = at::zeros({batch, 1}, at::kLong),
          .keys = at::where(odd, other, kind),
          .values = signs,
          .answers = signs.gather(1, place),
          .planted = odd.unsqueeze(1)};
}

// Kinds see each other by `encode`; only pooling sees signs.
template <class Encode>
std::shared_ptr<Learner> odd_one_learner(std::shared_ptr<torch::nn::Module> encoder,
                                         Encode encode) {
  const auto both = std::make_shared<torch::nn::Module>();
  if (encoder != nullptr) both->register_module("encode", encoder);
  nn::PoolingByMultiheadAttention pool = both->register_module(
      "pool",
      nn::PoolingByMultiheadAttention(nn::SetAttentionOptions{.embed_size = kWidth, .heads = 1}));
  return std::make_shared<SymbolLearner>(
      SymbolLearnerOptions{.draw = draw_odd_one,
                           .query_symbols = 1,
                           .key_symbols = kSetKinds,
                           .value_symbols = kSigns,
                           .size = kWidth,
                           .query_name = only_question,
                           .key_name = letter,
                           .value_name = digit},
      both,
      [=](const at::Tensor&, const at::Tensor& kinds, const at::Tensor& signs,
          const at::Tensor& lengths, nn::Weights weights) mutable {
        return only_head(pool(encode(kinds, lengths) + signs, lengths, weights));
      });
}

Lesson odd_one_lesson(std::string name, std::string mechanism,
                      std::function<std::shared_ptr<Learner>()> make, std::string cannot = "") {
  return {.name = std::move(name),
          .mechanism = std::move(mechanism),
          .page = "set_attention",
          .task = "All elements of a set are of one kind but one: what is its sign?",
          .make = std::move(make),
          .steps = 400,
          .batch = 32,
          .learning_rate = 4e-3,
          .cannot = std::move(cannot),
          .most_accuracy = 0.75};
}

constexpr nn::SetAttentionOptions kSetOptions = {.embed_size = kWidth, .heads = 1};

std::shared_ptr<Learner> by_set_attention() {
  nn::SetAttentionBlock block(kSetOptions);
  return odd_one_learner(block.ptr(),
                         [block](const at::Tensor& x, const at::Tensor& lengths) mutable {
                           return block(x, lengths).output;
                         });
}

std::shared_ptr<Learner> by_induced_points() {
  nn::InducedSetAttentionBlock block(kSetOptions, /*points=*/4);
  return odd_one_learner(block.ptr(),
                         [block](const at::Tensor& x, const at::Tensor& lengths) mutable {
                           return block(x, lengths).output;
                         });
}

std::shared_ptr<Learner> by_pooling_alone() {
  return odd_one_learner(nullptr, [](const at::Tensor& x, const at::Tensor&) { return x; });
}

}  // namespace

std::vector<Lesson> composition_lessons() {
  return {
      self_attention_lesson(),
      cross_attention_lesson(),
      distances_lesson("multi_head", "multi-head attention, Vaswani 2017", /*heads=*/2,
                       /*kv_heads=*/2),
      distances_lesson("one_head", "attention with one head", /*heads=*/1, /*kv_heads=*/1,
                       "one head makes one mixture, and a mixture of two signs does not say which "
                       "of them stood where"),
      distances_lesson("grouped_heads", "heads that share keys and values, Ainslie 2023",
                       /*heads=*/4, /*kv_heads=*/2),
      cache_lesson(),
      hierarchical_lesson(),
      sentinel_lesson(),
      sorting_lesson("coverage", "coverage, See 2017", "coverage_attention", by_coverage),
      sorting_lesson("no_coverage", "additive attention, Bahdanau 2015", "coverage_attention",
                     without_coverage,
                     "equal queries have equal weights: only what was looked at "
                     "before tells one step from another"),
      attention_pooling_lesson(),
      odd_one_lesson("set_attention", "set attention, Lee 2019 (SAB and PMA)", by_set_attention),
      odd_one_lesson("induced_points", "set attention by induced points, Lee 2019 (ISAB and PMA)",
                     by_induced_points),
      odd_one_lesson("pooling_alone", "pooling by multi-head attention, Lee 2019 (PMA)",
                     by_pooling_alone,
                     "each element's score is its own: none knows what the others are")};
}

}  // namespace heed::learn
