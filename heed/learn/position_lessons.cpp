// Positions: each lesson is solved by places alone, and the kinds that count distances are judged
// on rows longer than any in training.
#include <ATen/ops/randint.h>
#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/learn/position_tasks.h"
#include "heed/nn/alibi.h"
#include "heed/nn/learned_positions.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/relative_positions.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/transformer_xl_positions.h"

namespace heed::learn {
namespace {

// --- Learners ------------------------------------------------------------------------------------

// The last query stands at the last key and sees no key after it. Of several heads the first shows
// its weights: the steepest of ALiBi's.
std::shared_ptr<Learner> looking_back(SymbolLearnerOptions options, int64_t heads,
                                      std::shared_ptr<nn::AttentionPositionsImpl> positions,
                                      Causal causal = Causal::kBottomRight) {
  nn::MultiHeadAttention attention(nn::MultiHeadAttentionOptions{
      .embed_size = kWidth, .heads = heads, .positions = std::move(positions)});
  return symbol_learner(
      std::move(options), attention,
      [attention, causal](const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths, nn::Weights weights) mutable {
        return first_head(attention(query, keys, values, lengths, causal, weights));
      });
}

// Positions join queries and keys before the attention, in rows that begin at any of `starts`
// places.
template <class Positions>
std::shared_ptr<Learner> with_added(SymbolLearnerOptions options, Positions positions,
                                    int64_t starts) {
  const auto both = std::make_shared<torch::nn::Module>();
  both->register_module("positions", positions);
  nn::MultiHeadAttention attention = both->register_module(
      "attention",
      nn::MultiHeadAttention(nn::MultiHeadAttentionOptions{.embed_size = kWidth, .heads = 1}));
  return std::make_shared<SymbolLearner>(
      std::move(options), both,
      [=](const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
          const at::Tensor& lengths, nn::Weights weights) mutable {
        const at::Tensor start = at::randint(starts, {keys.size(0)}, at::kLong);  // [B]
        const at::Tensor asking = start + (keys.size(1) - query.size(1));
        return first_head(attention(positions(query, asking), positions(keys, start), values,
                                    lengths, Causal::kNone, weights));
      });
}

// --- Lessons -------------------------------------------------------------------------------------

const char* const kJumpTask = "What stood as many places before as the query says?";

constexpr RowLengths kSameLength = {16, 16, 16};

Lesson no_positions_lesson() {
  return {.name = "no_positions",
          .mechanism = "attention without positions",
          .page = "multi_head_attention",
          .task = "Which symbol stood three places before?",
          .make = [] { return looking_back(ask_third_before(kSameLength), /*heads=*/1, nullptr); },
          .steps = 200,
          .batch = 32,
          .learning_rate = 1e-2,
          .cannot = "without positions a row is a bag: its symbols, but not where they stand"};
}

Lesson sinusoidal_lesson() {
  return {.name = "sinusoidal",
          .mechanism = "sinusoidal positions, Vaswani 2017",
          .page = "sinusoidal_positions",
          .task = "Which symbol stood three places before, in rows that begin at any place?",
          .make =
              [] {
                return with_added(
                    ask_third_before(kSameLength),
                    nn::SinusoidalPositions(nn::SinusoidalPositionsOptions{.embed_size = kWidth}),
                    /*starts=*/64);
              },
          .steps = 300,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson learned_lesson() {
  constexpr int64_t kLength = 16;
  return {.name = "learned_positions",
          .mechanism = "learnt positions, Gehring 2017",
          .page = "learned_positions",
          .task = "A row read in an order that has no rule.",
          .make =
              [] {
                return with_added(ask_shuffled(kLength),
                                  nn::LearnedPositions(nn::LearnedPositionsOptions{
                                      .length = kLength, .embed_size = kWidth}),
                                  /*starts=*/1);
              },
          .steps = 400,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson relative_lesson() {
  return {.name = "relative",
          .mechanism = "relative positions, Shaw 2018",
          .page = "relative_positions",
          .task = std::string(kJumpTask) + " Judged on rows three times as long as in training.",
          .make =
              [] {
                return looking_back(
                    ask_jump({12, 16, 48}),
                    /*heads=*/1,
                    nn::RelativePositions(
                        nn::RelativePositionsOptions{.head_size = kWidth, .max_distance = 5})
                        .ptr());
              },
          .steps = 150,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson relative_values_lesson() {
  constexpr int64_t kFar = 2;
  return {.name = "relative_values",
          .mechanism = "relative positions of values, Shaw 2018",
          .page = "relative_positions",
          .task = "Which sign stands at a word, how far away and on which side?",
          .make =
              [] {
                return looking_back(
                    ask_sign_and_distance(kFar),
                    /*heads=*/1,
                    nn::RelativePositions(
                        nn::RelativePositionsOptions{.head_size = kWidth, .max_distance = kFar})
                        .ptr(),
                    Causal::kNone);
              },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2};
}

nn::T5Bias backward_buckets() {
  return nn::T5Bias(
      nn::T5BiasOptions{.heads = 1, .buckets = 16, .max_distance = 16, .bidirectional = false});
}

Lesson t5_lesson() {
  return {.name = "t5",
          .mechanism = "a bias for each bucket of distances, Raffel 2020 (T5)",
          .page = "t5_bias",
          .task =
              "Which symbol stood three places before? Judged on rows twice as long as in "
              "training.",
          .make =
              [] {
                return looking_back(ask_third_before({16, 24, 48}), /*heads=*/1,
                                    backward_buckets().ptr());
              },
          .steps = 300,
          .batch = 32,
          .learning_rate = 5e-2};
}

Lesson t5_jump_lesson() {
  return {
      .name = "t5_jump",
      .mechanism = "a bias for each bucket of distances, Raffel 2020 (T5)",
      .page = "t5_bias",
      .task = kJumpTask,
      .make =
          [] { return looking_back(ask_jump(kSameLength), /*heads=*/1, backward_buckets().ptr()); },
      .steps = 200,
      .batch = 32,
      .learning_rate = 2e-2,
      .cannot = "the bias of a distance is the same for all queries: none can choose its own",
      .most_accuracy = 0.6};
}

Lesson transformer_xl_lesson() {
  return {.name = "transformer_xl",
          .mechanism = "relative positions of Transformer-XL, Dai 2019",
          .page = "transformer_xl_positions",
          .task = std::string(kJumpTask) + " Judged on rows twice as long as in training.",
          .make =
              [] {
                return looking_back(
                    ask_jump({12, 16, 32}),
                    /*heads=*/1,
                    nn::TransformerXLPositions(
                        nn::TransformerXLPositionsOptions{.embed_size = kWidth, .heads = 1})
                        .ptr());
              },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson alibi_lesson() {
  constexpr int64_t kHeads = 4;
  return {.name = "alibi",
          .mechanism = "linear biases, Press 2022 (ALiBi)",
          .page = "alibi",
          .task =
              "What stands at the nearest mark before? Judged on rows three times as long as in "
              "training.",
          .make =
              [] {
                return looking_back(ask_nearest_mark({16, 24, 72}), kHeads,
                                    nn::Alibi(nn::AlibiOptions{.heads = kHeads}).ptr());
              },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2};
}

std::shared_ptr<Learner> turning(SymbolLearnerOptions options,
                                 const nn::RotaryPositionsOptions& positions) {
  return looking_back(std::move(options), /*heads=*/1, nn::RotaryPositions(positions).ptr());
}

Lesson rotary_lesson() {
  return {.name = "rotary",
          .mechanism = "rotary positions, Su 2021",
          .page = "rotary_positions",
          .task = kJumpTask,
          .make =
              [] {
                return turning(ask_jump({12, 16, 16}), {.head_size = kWidth});
              },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2};
}

// Waves that turn less than once within the rows of training.
std::shared_ptr<Learner> four_times_as_long(const nn::RotaryScaling& scaling) {
  return turning(ask_scattered_words({14, 16, 64}),
                 {.head_size = kWidth, .base = 100, .scaling = scaling});
}

const char* const kScatteredTask =
    "A word is asked for, wherever it stands. Judged on rows four times as long as in training.";

Lesson rotary_scaling_lesson() {
  return {
      .name = "rotary_scaling",
      .mechanism = "rotary positions with a base that grows with the row, NTK-aware scaling",
      .page = "rotary_positions",
      .task = kScatteredTask,
      .make =
          [] {
            return four_times_as_long(
                {.kind = nn::RotaryScaling::Kind::kDynamic, .factor = 4, .original_length = 16});
          },
      .steps = 250,
      .batch = 32,
      .learning_rate = 1e-2};
}

Lesson rotary_unscaled_lesson() {
  return {.name = "rotary_unscaled",
          .mechanism = "rotary positions, Su 2021",
          .page = "rotary_positions",
          .task = kScatteredTask,
          .make = [] { return four_times_as_long({}); },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2,
          .cannot = "its waves turn by angles that training has never shown",
          .most_accuracy = 0.8};
}

}  // namespace

std::vector<Lesson> position_lessons() {
  return {no_positions_lesson(), sinusoidal_lesson(),      learned_lesson(),
          relative_lesson(),     relative_values_lesson(), t5_lesson(),
          t5_jump_lesson(),      transformer_xl_lesson(),  alibi_lesson(),
          rotary_lesson(),       rotary_scaling_lesson(),  rotary_unscaled_lesson()};
}

}  // namespace heed::learn
