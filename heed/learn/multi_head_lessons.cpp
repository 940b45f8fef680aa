// Multi-head attention: over one row and over two, with several heads, by a cache.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/t5_bias.h"

namespace heed::learn {
namespace {

// --- One row, and two ----------------------------------------------------------------------------

// Words stand in pairs, as a and A, each with a sign; every word asks for its partner's.
Symbols draw_partners(int64_t batch) {
  constexpr int64_t kPairs = 6, kKinds = 10;
  const at::Tensor kinds = draw_words(batch, kPairs, kKinds);
  const at::Tensor order = draw_orders(batch, 2 * kPairs);
  const at::Tensor row = at::cat({kinds, kinds + kKinds}, 1).gather(1, order);  // [B,S]
  const at::Tensor signs = draw_signs({batch, 2 * kPairs});
  const at::Tensor partner = (row + kKinds).remainder(2 * kKinds);
  const at::Tensor there = partner.unsqueeze(2).eq(row.unsqueeze(1));  // [B,T,S]
  return ask_at(row, row, signs, there.to(at::kLong).argmax(2));
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
            return symbol_learner(
                {.draw = draw_partners,
                 .query_symbols = 20,
                 .key_symbols = 20,
                 .value_symbols = kSigns,
                 .query_name = name,
                 .key_name = name,
                 .value_name = digit},
                attention,
                [attention](const at::Tensor&, const at::Tensor& words, const at::Tensor& signs,
                            const at::Tensor& lengths, nn::Weights weights) mutable {
                  const at::Tensor row = words + signs;
                  return first_head(attention(row, row, row, lengths, Causal::kNone, weights));
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
        return symbol_learner(
            {.draw = [](int64_t B) { return draw_dictionary(B, 6, 10, 16, kSigns); },
             .query_symbols = 16,
             .key_symbols = 16,
             .value_symbols = kSigns,
             .query_name = capital,
             .key_name = letter,
             .value_name = digit},
            attention,
            [attention](const at::Tensor& query, const at::Tensor& words, const at::Tensor& signs,
                        const at::Tensor& lengths, nn::Weights weights) mutable {
              return first_head(attention(query, words, signs, lengths, Causal::kNone, weights));
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
    signs_ = register_parameter("signs", at::randn({kSigns, kWidth}));
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
    return look(draw_signs({batch, kLength}), weights_for(purpose));
  }

  Alignment example() override {
    const at::Tensor row = draw_signs({1, kLength});
    const Answers answers = look(row, nn::Weights::kReturn);
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kLength; ++s) source.push_back(letter(row[0][s].item<int64_t>()));
    for (int64_t t = 0; t < kAsked; ++t) {
      for (int64_t k = 0; k < distances_.size(0); ++k) {
        target.push_back("-" + digit(distances_[k].item<int64_t>()));
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
    words_ = register_parameter("words", at::randn({kWords, kWidth}));
    signs_ = register_parameter("signs", at::randn({kSigns + 1, kWidth}));
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
      const std::string word = letter(row.words[0][s].item<int64_t>());
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

}  // namespace

std::vector<Lesson> multi_head_lessons() {
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
      cache_lesson()};
}

}  // namespace heed::learn
