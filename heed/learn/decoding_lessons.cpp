// What a decoder's attention keeps beside its memory: a sentinel for what is not there, and
// coverage of what was read before.
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/nn/additive_attention.h"
#include "heed/nn/coverage_attention.h"
#include "heed/nn/sentinel_attention.h"

namespace heed::learn {
namespace {

// --- Sentinel ------------------------------------------------------------------------------------

// A query is a word and a guess. Where the word stands in memory, so does the answer; where it does
// not, the guess is right, and the sentinel is made of it.
class GuessLearner : public Learner {
 public:
  GuessLearner() {
    queries_ = register_parameter("queries", at::randn({kWords, kWidth}));
    words_ = register_parameter("words", at::randn({kWords, kWidth}));
    signs_ = register_parameter("signs", at::randn({kSigns, kWidth}));
    guesses_ = register_parameter("guesses", at::randn({kSigns, kWidth}));
    attention_ = register_module(
        "attention",
        nn::SentinelAttention(nn::SentinelAttentionOptions{
            .query_size = kWidth, .key_size = kWidth, .value_size = kWidth, .size = 2 * kWidth}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    return look(draw(batch), weights_for(purpose));
  }

  Alignment example() override {
    const Task task = draw(1);
    const Answers answers = look(task, nn::Weights::kReturn);
    const auto label = [](const std::string& word, const at::Tensor& sign) {
      return word + ":" + digit(sign.item<int64_t>());
    };
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kMemory; ++s) {
      source.push_back(label(letter(task.words[0][s].item<int64_t>()), task.signs[0][s]));
    }
    source.push_back("guess");
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
  const at::Tensor order = keys.argsort(/*dim=*/1, /*descending=*/false);  // [B,T]
  return ask_at(at::zeros({batch, kLength}, at::kLong), keys, signs, order);
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
                             .query_name = question,
                             .key_name = letter,
                             .value_name = digit});
              },
          .steps = 400,
          .batch = 32,
          .learning_rate = 1e-2,
          .cannot = std::move(cannot)};
}

std::shared_ptr<Learner> by_coverage(SymbolLearnerOptions task) {
  const nn::CoverageAttention attention(
      nn::CoverageAttentionOptions{.query_size = kWidth, .key_size = kWidth, .size = kWidth});
  return symbol_learner(
      std::move(task), attention,
      [attention](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                  const at::Tensor& lengths, nn::Weights) -> nn::AttentionOutput {
        const auto module = attention.ptr();
        const nn::CoverageOutput seen =
            module->forward(query, module->keys(memory), values, lengths);
        return {.output = seen.output, .weights = seen.weights};
      });
}

std::shared_ptr<Learner> without_coverage(SymbolLearnerOptions task) {
  const nn::AdditiveAttention attention(
      nn::AdditiveAttentionOptions{.query_size = kWidth, .key_size = kWidth, .size = kWidth});
  return symbol_learner(std::move(task), attention, ask_projected(attention));
}

}  // namespace

std::vector<Lesson> decoding_lessons() {
  return {sentinel_lesson(),
          sorting_lesson("coverage", "coverage, See 2017", "coverage_attention", by_coverage),
          sorting_lesson("no_coverage", "additive attention, Bahdanau 2015", "coverage_attention",
                         without_coverage,
                         "equal queries have equal weights: only what was looked at before tells "
                         "one step from another")};
}

}  // namespace heed::learn
