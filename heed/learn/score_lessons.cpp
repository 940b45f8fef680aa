// Lessons of the scores: what a formula compares, or fails to compare, decides what it can find.
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/nn/additive_attention.h"
#include "heed/nn/content_location_attention.h"
#include "heed/nn/cosine_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/location_attention.h"
#include "heed/nn/location_sensitive_attention.h"

namespace heed::learn {
namespace {

constexpr int64_t kDigits = 10;

// --- Ways to ask a mechanism -------------------------------------------------------------------

Attend ask_without_keys(nn::LocationAttention mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor&, const at::Tensor& values,
                     const at::Tensor& lengths, nn::Weights weights) mutable {
    return mechanism->forward(query, values, lengths, weights);
  };
}

// Each step is told where the one before it looked.
Attend ask_step_by_step(nn::LocationSensitiveAttention mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                     const at::Tensor& lengths, nn::Weights) mutable -> nn::AttentionOutput {
    const at::Tensor keys = mechanism->keys(memory);
    at::Tensor previous;  // [B,1,S]
    std::vector<at::Tensor> outputs, weights;
    for (int64_t t = 0; t < query.size(1); ++t) {
      const nn::AttentionOutput step =
          mechanism->forward(query.narrow(1, t, 1), keys, values, previous, lengths);
      outputs.push_back(step.output);
      weights.push_back(previous = step.weights);
    }
    return {.output = at::cat(outputs, 1), .weights = at::cat(weights, 1)};
  };
}

// --- Tasks -------------------------------------------------------------------------------------

SymbolLearnerOptions dictionary_task() {
  constexpr int64_t kQueries = 6, kEntries = 10, kWords = 20;
  return {
      .draw =
          [](int64_t batch) { return draw_dictionary(batch, kQueries, kEntries, kWords, kDigits); },
      .query_symbols = kWords,
      .key_symbols = kWords,
      .value_symbols = kDigits,
      .query_name = capital,
      .key_name = letter,
      .value_name = digit};
}
const char* const kDictionary =
    "Entries word:digit stand in any order; a query names one of the words in another alphabet "
    "and asks for its digit.";

constexpr int64_t kScoreLength = 12;

SymbolLearnerOptions reverse_task(int64_t positions) {
  return {.draw = [](int64_t batch) { return draw_reverse(batch, kScoreLength, kSigns); },
          .query_symbols = 1,
          .key_symbols = kSigns,
          .value_symbols = kSigns,
          .positions = positions,
          .query_name = question,
          .key_name = letter};
}
const char* const kReverse = "A row of letters is written off from its end to its start.";

// The first place of a row bears a sign of its own, as speech begins out of silence.
constexpr int64_t kSounds = 3, kSilence = kSounds;

Symbols draw_dictation(int64_t batch) {
  at::Tensor row = draw_signs({batch, kScoreLength}, kSounds);
  row.select(1, 0).fill_(kSilence);
  Symbols symbols = draw_copy(batch, kScoreLength, kDigits);
  symbols.query = symbols.keys = row;
  return symbols;
}

SymbolLearnerOptions dictation_task() {
  return {.draw = draw_dictation,
          .query_symbols = kSounds + 1,
          .key_symbols = kSounds + 1,
          .value_symbols = kDigits,
          .query_name = [](int64_t sound) { return sound == kSilence ? "^" : capital(sound); },
          .key_name = [](int64_t sound) { return sound == kSilence ? "^" : letter(sound); },
          .value_name = digit};
}
const char* const kDictation =
    "Three sounds, each repeated many times, are written off in their order: a step names the "
    "next sound and asks for the digit of that one of its kind which it has come to.";

// Each word stands twice, once in either half of the row; a query names word and half.
constexpr int64_t kHalf = 6;

Symbols draw_halves(int64_t batch) {
  const at::Tensor keys =
      at::cat({draw_orders(batch, kHalf), draw_orders(batch, kHalf)}, 1);  // [B,S]
  const at::Tensor values = draw_signs({batch, 2 * kHalf}, kDigits);
  const at::Tensor place = at::randint(2 * kHalf, {batch, kHalf}, at::kLong);  // [B,T]
  return ask_at(keys.gather(1, place) + kHalf * place.ge(kHalf), keys, values, place);
}

SymbolLearnerOptions halves_task() {
  return {.draw = draw_halves,
          .query_symbols = 2 * kHalf,
          .key_symbols = kHalf,
          .value_symbols = kDigits,
          .query_name =
              [](int64_t asked) { return capital(asked % kHalf) + (asked < kHalf ? "<" : ">"); },
          .key_name = letter,
          .value_name = digit};
}
const char* const kHalves =
    "Each word stands once in either half of the row; a query names a word and a half (< or >) "
    "and asks for the digit of that one.";

// --- Learners ----------------------------------------------------------------------------------

std::shared_ptr<Learner> dot_learner(SymbolLearnerOptions task, bool scaled) {
  // So that unscaled products, too, are of order 1 at first.
  if (!scaled) task.spread = std::pow(kWidth, -0.25);
  const nn::DotAttention mechanism(nn::DotAttentionOptions{.scaled = scaled});
  return symbol_learner(std::move(task), mechanism);
}

std::shared_ptr<Learner> general_learner(SymbolLearnerOptions task) {
  const nn::GeneralAttention mechanism(
      nn::GeneralAttentionOptions{.query_size = kWidth, .key_size = kWidth});
  return symbol_learner(std::move(task), mechanism, ask_projected(mechanism));
}

std::shared_ptr<Learner> additive_learner(SymbolLearnerOptions task) {
  const nn::AdditiveAttention mechanism(
      nn::AdditiveAttentionOptions{.query_size = kWidth, .key_size = kWidth, .size = kWidth});
  return symbol_learner(std::move(task), mechanism, ask_projected(mechanism));
}

std::shared_ptr<Learner> cosine_learner(SymbolLearnerOptions task) {
  const nn::CosineAttention mechanism{nn::CosineAttentionOptions{}};
  return symbol_learner(std::move(task), mechanism);
}

std::shared_ptr<Learner> location_learner(SymbolLearnerOptions task) {
  const nn::LocationAttention mechanism(
      nn::LocationAttentionOptions{.query_size = kWidth, .max_length = kScoreLength});
  return symbol_learner(std::move(task), mechanism, ask_without_keys(mechanism));
}

std::shared_ptr<Learner> location_sensitive_learner(SymbolLearnerOptions task) {
  const nn::LocationSensitiveAttention mechanism(nn::LocationSensitiveAttentionOptions{
      .query_size = kWidth, .key_size = kWidth, .size = kWidth, .filters = 8, .width = 5});
  return symbol_learner(std::move(task), mechanism, ask_step_by_step(mechanism));
}

std::shared_ptr<Learner> content_location_learner(SymbolLearnerOptions task) {
  const nn::ContentLocationAttention mechanism(nn::ContentLocationAttentionOptions{.size = kWidth});
  return symbol_learner(std::move(task), mechanism);
}

}  // namespace

std::vector<Lesson> score_lessons() {
  return {
      {.name = "dot",
       .mechanism = "dot-product attention, Luong 2015",
       .page = "dot_attention",
       .task = kDictionary,
       .make = [] { return dot_learner(dictionary_task(), /*scaled=*/false); }},
      {.name = "scaled_dot",
       .mechanism = "scaled dot-product attention, Vaswani 2017",
       .page = "dot_attention",
       .task = kDictionary,
       .make = [] { return dot_learner(dictionary_task(), /*scaled=*/true); }},
      {.name = "dot_placeless",
       .mechanism = "dot-product attention without positions",
       .page = "dot_attention",
       .task = kReverse,
       .make = [] { return dot_learner(reverse_task(/*positions=*/0), /*scaled=*/true); },
       .cannot = "a product of contents is the same wherever they stand"},
      {.name = "general",
       .mechanism = "general (bilinear) attention, Luong 2015",
       .page = "general_attention",
       .task = kDictionary,
       .make = [] { return general_learner(dictionary_task()); }},
      {.name = "additive",
       .mechanism = "additive (MLP) attention, Bahdanau 2015",
       .page = "additive_attention",
       .task = kDictionary,
       .make = [] { return additive_learner(dictionary_task()); }},
      {.name = "cosine",
       .mechanism = "cosine attention with a learnt temperature, Graves 2014, Liu 2022",
       .page = "cosine_attention",
       .task = kDictionary,
       .make = [] { return cosine_learner(dictionary_task()); },
       .learning_rate = 1e-2},
      {.name = "location",
       .mechanism = "location-based attention, Luong 2015",
       .page = "location_attention",
       .task = kReverse,
       .make = [] { return location_learner(reverse_task(/*positions=*/kScoreLength)); }},
      {.name = "location_dictionary",
       .mechanism = "location-based attention, Luong 2015",
       .page = "location_attention",
       .task = kDictionary,
       .make = [] { return location_learner(dictionary_task()); },
       .cannot = "the weights are made without a look at the words"},
      {.name = "location_sensitive",
       .mechanism = "location-sensitive attention, Chorowski 2015",
       .page = "location_sensitive_attention",
       .task = kDictation,
       .make = [] { return location_sensitive_learner(dictation_task()); },
       .steps = 200,
       .batch = 16,
       .learning_rate = 1e-2},
      {.name = "additive_dictation",
       .mechanism = "additive (MLP) attention, Bahdanau 2015",
       .page = "location_sensitive_attention",
       .task = kDictation,
       .make = [] { return additive_learner(dictation_task()); },
       .cannot = "all places of the same sound get the same weight",
       .most_accuracy = 0.6},
      {.name = "content_location",
       .mechanism = "content and location in one score, Yang 2018",
       .page = "content_location_attention",
       .task = kHalves,
       .make = [] { return content_location_learner(halves_task()); },
       .steps = 800,
       .learning_rate = 1e-2},
      {.name = "dot_halves",
       .mechanism = "dot-product attention without positions",
       .page = "content_location_attention",
       .task = kHalves,
       .make = [] { return dot_learner(halves_task(), /*scaled=*/true); },
       .cannot = "the word's two places have the same score",
       .most_accuracy = 0.7},
  };
}

}  // namespace heed::learn
