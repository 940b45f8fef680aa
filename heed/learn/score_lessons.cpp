// Lessons of the scores: what a formula compares, or fails to compare, decides what it can find.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <cstdio>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/additive_attention.h"
#include "heed/nn/content_location_attention.h"
#include "heed/nn/cosine_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/general_attention.h"
#include "heed/nn/kernel_regression.h"
#include "heed/nn/location_attention.h"
#include "heed/nn/location_sensitive_attention.h"

namespace heed::learn {
namespace {

using nn::Weights;

constexpr int64_t kScoreSize = 32;  // E
constexpr int64_t kDigits = 10;

// --- Ways to ask a mechanism -------------------------------------------------------------------

template <class Mechanism>
Attend ask(Mechanism mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                     const at::Tensor& lengths, Weights weights) mutable {
    return mechanism->forward(query, keys, values, lengths, weights);
  };
}

// Where memory becomes keys by a projection of the mechanism's own.
template <class Mechanism>
Attend ask_projected(Mechanism mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                     const at::Tensor& lengths, Weights weights) mutable {
    return mechanism->forward(query, mechanism->keys(memory), values, lengths, weights);
  };
}

Attend ask_without_keys(nn::LocationAttention mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor&, const at::Tensor& values,
                     const at::Tensor& lengths, Weights weights) mutable {
    return mechanism->forward(query, values, lengths, weights);
  };
}

// Each step is told where the one before it looked.
Attend ask_step_by_step(nn::LocationSensitiveAttention mechanism) {
  return [mechanism](const at::Tensor& query, const at::Tensor& memory, const at::Tensor& values,
                     const at::Tensor& lengths, Weights) mutable -> nn::AttentionOutput {
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

template <class Mechanism>
std::shared_ptr<Learner> symbol_learner(SymbolLearnerOptions task, Mechanism mechanism,
                                        Attend attend) {
  return std::make_shared<SymbolLearner>(std::move(task), mechanism.ptr(), std::move(attend));
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
      .size = kScoreSize,
      .query_name = capital,
      .key_name = letter,
      .value_name = digit};
}
const char* const kDictionary =
    "Entries word:digit stand in any order; a query names one of the words in another alphabet "
    "and asks for its digit.";

constexpr int64_t kScoreLength = 12;

SymbolLearnerOptions reverse_task(int64_t positions) {
  constexpr int64_t kLetters = 8;
  return {.draw = [](int64_t batch) { return draw_reverse(batch, kScoreLength, kLetters); },
          .query_symbols = 1,
          .key_symbols = kLetters,
          .value_symbols = kLetters,
          .size = kScoreSize,
          .positions = positions,
          .query_name = [](int64_t) { return "?"; },
          .key_name = letter};
}
const char* const kReverse = "A row of letters is written off from its end to its start.";

// The first place of a row bears a sign of its own, as speech begins out of silence.
constexpr int64_t kSounds = 3, kSilence = kSounds;

Symbols draw_dictation(int64_t batch) {
  at::Tensor row = at::randint(kSounds, {batch, kScoreLength}, at::kLong);
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
          .size = kScoreSize,
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
  const auto any_order = [batch] {
    return at::rand({batch, kHalf}).argsort(/*dim=*/1, /*descending=*/false);
  };
  const at::Tensor keys = at::cat({any_order(), any_order()}, 1);  // [B,S]
  const at::Tensor values = at::randint(kDigits, {batch, 2 * kHalf}, at::kLong);
  const at::Tensor place = at::randint(2 * kHalf, {batch, kHalf}, at::kLong);  // [B,T]
  return {.query = keys.gather(1, place) + kHalf * place.ge(kHalf),
          .keys = keys,
          .values = values,
          .answers = values.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(2 * kHalf))};
}

SymbolLearnerOptions halves_task() {
  return {.draw = draw_halves,
          .query_symbols = 2 * kHalf,
          .key_symbols = kHalf,
          .value_symbols = kDigits,
          .size = kScoreSize,
          .query_name =
              [](int64_t asked) { return capital(asked % kHalf) + (asked < kHalf ? "<" : ">"); },
          .key_name = letter,
          .value_name = digit};
}
const char* const kHalves =
    "Each word stands once in either half of the row; a query names a word and a half (< or >) "
    "and asks for the digit of that one.";

// Signs at points of a line; a query is a point and asks for the sign nearest to it. Points are the
// scores' own: nothing is embedded but what stands there.
class NearestLearner : public Learner {
 public:
  template <class Mechanism>
  explicit NearestLearner(Mechanism mechanism)
      : attend_(ask(mechanism)),
        signs_(register_parameter("signs", at::randn({kSigns, kScoreSize}))),
        reading_(register_module("reading", torch::nn::Linear(kScoreSize, kSigns))) {
    register_module("mechanism", mechanism.ptr());
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Drawn drawn = draw(batch);
    const bool judging = purpose == Purpose::kJudging;
    const nn::AttentionOutput seen = look(drawn, judging ? Weights::kReturn : Weights::kNone);
    return {.logits = reading_(seen.output).flatten(0, 1),
            .targets = drawn.signs.gather(1, drawn.nearest).flatten(),
            .weights = judging ? seen.weights.flatten(0, 1) : at::Tensor(),
            .planted = drawn.planted.flatten(0, 1)};
  }

  Alignment example() override {
    const Drawn drawn = draw(1);
    return shown(point_names(drawn.keys), point_names(drawn.query),
                 look(drawn, Weights::kReturn).weights[0], drawn.planted[0]);
  }

 private:
  static constexpr int64_t kPoints = 12, kQueries = 8, kSigns = 8;

  struct Drawn {
    at::Tensor query, keys;  // [B,T,1], [B,S,1]
    at::Tensor signs;        // [B,S] int64
    at::Tensor nearest;      // [B,T] int64
    at::Tensor planted;      // [B,T,S]
  };

  // In order, which no score sees, so that heat maps show the bumps around the diagonal.
  static at::Tensor random_points(int64_t batch, int64_t count) {
    return std::get<0>((2 * at::rand({batch, count}) - 1).sort(1));
  }

  static Drawn draw(int64_t batch) {
    const at::Tensor query = random_points(batch, kQueries), keys = random_points(batch, kPoints);
    const at::Tensor nearest = (query.unsqueeze(2) - keys.unsqueeze(1)).abs().argmin(2);  // [B,T]
    return {.query = query.unsqueeze(2),
            .keys = keys.unsqueeze(2),
            .signs = at::randint(kSigns, {batch, kPoints}, at::kLong),
            .nearest = nearest,
            .planted = nearest.unsqueeze(2).eq(at::arange(kPoints))};
  }

  nn::AttentionOutput look(const Drawn& drawn, Weights weights) const {
    return attend_(drawn.query, drawn.keys, at::embedding(signs_, drawn.signs), {}, weights);
  }

  static std::vector<std::string> point_names(const at::Tensor& points) {
    std::vector<std::string> names;
    for (int64_t i = 0; i < points.size(1); ++i) {
      char text[16];
      std::snprintf(text, sizeof text, "%.2f", points[0][i].item<double>());
      names.emplace_back(text);
    }
    return names;
  }

  Attend attend_;
  at::Tensor signs_;  // [kSigns,E]
  torch::nn::Linear reading_;
};
const char* const kNearest =
    "Signs stand at points of a line; a query is another point and asks for the sign that is "
    "nearest.";

// --- Learners ----------------------------------------------------------------------------------

std::shared_ptr<Learner> dot_learner(SymbolLearnerOptions task, bool scaled) {
  // So that unscaled products, too, are of order 1 at first.
  if (!scaled) task.spread = std::pow(kScoreSize, -0.25);
  const nn::DotAttention mechanism(nn::DotAttentionOptions{.scaled = scaled});
  return symbol_learner(std::move(task), mechanism, ask(mechanism));
}

std::shared_ptr<Learner> general_learner(SymbolLearnerOptions task) {
  const nn::GeneralAttention mechanism(
      nn::GeneralAttentionOptions{.query_size = kScoreSize, .key_size = kScoreSize});
  return symbol_learner(std::move(task), mechanism, ask_projected(mechanism));
}

std::shared_ptr<Learner> additive_learner(SymbolLearnerOptions task) {
  const nn::AdditiveAttention mechanism(nn::AdditiveAttentionOptions{
      .query_size = kScoreSize, .key_size = kScoreSize, .size = kScoreSize});
  return symbol_learner(std::move(task), mechanism, ask_projected(mechanism));
}

std::shared_ptr<Learner> cosine_learner(SymbolLearnerOptions task) {
  const nn::CosineAttention mechanism{nn::CosineAttentionOptions{}};
  return symbol_learner(std::move(task), mechanism, ask(mechanism));
}

std::shared_ptr<Learner> location_learner(SymbolLearnerOptions task) {
  const nn::LocationAttention mechanism(
      nn::LocationAttentionOptions{.query_size = kScoreSize, .max_length = kScoreLength});
  return symbol_learner(std::move(task), mechanism, ask_without_keys(mechanism));
}

std::shared_ptr<Learner> location_sensitive_learner(SymbolLearnerOptions task) {
  const nn::LocationSensitiveAttention mechanism(
      nn::LocationSensitiveAttentionOptions{.query_size = kScoreSize,
                                            .key_size = kScoreSize,
                                            .size = kScoreSize,
                                            .filters = 8,
                                            .width = 5});
  return symbol_learner(std::move(task), mechanism, ask_step_by_step(mechanism));
}

std::shared_ptr<Learner> content_location_learner(SymbolLearnerOptions task) {
  const nn::ContentLocationAttention mechanism(
      nn::ContentLocationAttentionOptions{.size = kScoreSize});
  return symbol_learner(std::move(task), mechanism, ask(mechanism));
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
      {.name = "kernel_regression",
       .mechanism = "kernel regression, Nadaraya 1964, Watson 1964",
       .page = "kernel_regression",
       .task = kNearest,
       .make = [] { return std::make_shared<NearestLearner>(nn::KernelRegression()); },
       .learning_rate = 2e-2},
      {.name = "dot_nearest",
       .mechanism = "dot-product attention, Luong 2015",
       .page = "kernel_regression",
       .task = kNearest,
       .make = [] { return std::make_shared<NearestLearner>(nn::DotAttention()); },
       .cannot = "a product grows with the key: the outermost point gets the largest score"},
  };
}

}  // namespace heed::learn
