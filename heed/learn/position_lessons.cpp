// Positions: each lesson is solved by places alone, and the kinds that count distances are judged
// on rows longer than any in training.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
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

constexpr int64_t kPositionSize = 32;  // E
constexpr int64_t kPlaceSymbols = 8;   // of values
constexpr int64_t kAsking = 8;         // T: the last rows ask

// --- Tasks ---------------------------------------------------------------------------------------

// Rows of `shortest` to `longest` places in training, of `judged` when judged.
struct RowLengths {
  int64_t shortest, longest, judged;
};

using DrawRow = std::function<Symbols(int64_t batch, int64_t length)>;

SymbolLearnerOptions over_rows(const RowLengths& lengths, DrawRow draw,
                               SymbolLearnerOptions options) {
  options.draw = [=](int64_t batch) {
    const at::Tensor length = at::randint(lengths.shortest, lengths.longest + 1, {});
    return draw(batch, length.item<int64_t>());
  };
  options.draw_judged = [=](int64_t batch) { return draw(batch, lengths.judged); };
  options.size = kPositionSize;
  return options;
}

std::string mark_name(int64_t marked) { return marked == 0 ? "." : "*"; }

// The answer is the value at place [B,T].
Symbols ask_at(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
               const at::Tensor& place) {
  return {.query = query,
          .keys = keys,
          .values = values,
          .answers = values.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(keys.size(1)))};
}

at::Tensor random_row(int64_t batch, int64_t length) {
  return at::randint(kPlaceSymbols, {batch, length}, at::kLong);
}

at::Tensor asking_places(int64_t length) { return at::arange(length - kAsking, length); }  // [T]

// Each of the last symbols asks for the third before it.
SymbolLearnerOptions symbols_ask() {
  return {.query_symbols = kPlaceSymbols,
          .key_symbols = kPlaceSymbols,
          .value_symbols = kPlaceSymbols,
          .query_name = letter,
          .key_name = letter};
}
Symbols draw_third_before(int64_t batch, int64_t length) {
  const at::Tensor row = random_row(batch, length);
  return ask_at(row.narrow(1, length - kAsking, kAsking), row, row,
                (asking_places(length) - 3).expand({batch, -1}));
}

// Query d asks for the symbol d + 1 places before its own.
constexpr int64_t kFarthest = 4;
SymbolLearnerOptions distances_ask() {
  return {.query_symbols = kFarthest,
          .key_symbols = kPlaceSymbols,
          .value_symbols = kPlaceSymbols,
          .query_name = [](int64_t d) { return "-" + std::to_string(d + 1); },
          .key_name = letter};
}
Symbols draw_jump(int64_t batch, int64_t length) {
  const at::Tensor row = random_row(batch, length);
  const at::Tensor query = at::randint(kFarthest, {batch, kAsking}, at::kLong);
  return ask_at(query, row, row, asking_places(length) - query - 1);
}

// Some keys, four to six places apart, bear a mark; all queries ask for the nearest one before.
SymbolLearnerOptions marks_are_asked_for() {
  return {.query_symbols = 1,
          .key_symbols = 2,
          .value_symbols = kPlaceSymbols,
          .query_name = [](int64_t) { return "?"; },
          .key_name = mark_name,
          .value_name = digit};
}
Symbols draw_nearest_mark(int64_t batch, int64_t length) {
  const at::Tensor first = at::randint(3, {batch, 1}, at::kLong);
  const at::Tensor steps = at::randint(4, 7, {batch, length / 4}, at::kLong);
  const at::Tensor marked = (first + steps.cumsum(1) - 4)  // the first mark is at 4 or before
                                .unsqueeze(2)
                                .eq(at::arange(length))
                                .any(1);  // [B,S]
  const at::Tensor nearest =
      std::get<0>(at::where(marked, at::arange(length), -1).cummax(1));  // [B,S]
  return ask_at(at::zeros({batch, kAsking}, at::kLong), marked.to(at::kLong),
                random_row(batch, length), nearest.narrow(1, length - kAsking, kAsking));
}

// Different words in any order, each with a sign; every place asks for the sign of a word and how
// far ahead it stands, -far, ..., far: one answer for each pair of these.
constexpr int64_t kFar = 2, kDistances = 2 * kFar + 1, kFarSigns = 4, kOrdered = 10;
Symbols draw_distances(int64_t batch) {
  const at::Tensor row = at::rand({batch, kOrdered}).argsort(-1, /*descending=*/false);
  const at::Tensor place = at::randint(kOrdered, {batch, kOrdered}, at::kLong);  // [B,T]
  const at::Tensor ahead = (place - at::arange(kOrdered)).clamp(-kFar, kFar);
  Symbols symbols = ask_at(row.gather(1, place), row,
                           at::randint(kFarSigns, {batch, kOrdered}, at::kLong), place);
  symbols.answers = symbols.answers * kDistances + ahead + kFar;
  return symbols;
}

// Six words stand somewhere before the queries, the other places are empty; a query names a word.
constexpr int64_t kScattered = 6;
SymbolLearnerOptions words_ask() {
  return {.query_symbols = kScattered,
          .key_symbols = kScattered + 1,
          .value_symbols = kPlaceSymbols,
          .query_name = letter,
          .key_name = [](int64_t word) { return word == kScattered ? "." : letter(word); },
          .value_name = digit};
}
Symbols draw_scattered_words(int64_t batch, int64_t length) {
  const at::Tensor places = at::rand({batch, length - kAsking + 1})
                                .argsort(-1, /*descending=*/false)
                                .narrow(1, 0, kScattered);  // [B,words]
  const at::Tensor keys =
      at::full({batch, length}, kScattered, at::kLong)
          .scatter(1, places, at::arange(kScattered).expand({batch, kScattered}));
  const at::Tensor query = at::randint(kScattered, {batch, kAsking}, at::kLong);
  return ask_at(query, keys, random_row(batch, length), places.gather(1, query));
}

// Query t asks for the symbol at a place that only t decides.
constexpr int64_t kShuffled = 16;
Symbols draw_shuffled(int64_t batch) {
  const at::Tensor row = random_row(batch, kShuffled);
  const at::Tensor place = (at::arange(kShuffled) * 7 + 3).remainder(kShuffled);
  return ask_at(at::zeros({batch, kShuffled}, at::kLong), row, row, place.expand({batch, -1}));
}

// --- Learners ------------------------------------------------------------------------------------

// Of several heads the first shows its weights: the steepest of ALiBi's.
nn::AttentionOutput first_head(nn::AttentionOutput result) {
  if (result.weights.defined()) result.weights = result.weights.select(1, 0);
  return result;
}

// The last query stands at the last key and sees no key after it.
std::shared_ptr<Learner> looking_back(SymbolLearnerOptions options, int64_t heads,
                                      std::shared_ptr<nn::AttentionPositionsImpl> positions,
                                      Causal causal = Causal::kBottomRight) {
  nn::MultiHeadAttention attention(nn::MultiHeadAttentionOptions{
      .embed_size = kPositionSize, .heads = heads, .positions = std::move(positions)});
  return std::make_shared<SymbolLearner>(
      std::move(options), attention.ptr(),
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
  nn::MultiHeadAttention attention =
      both->register_module("attention", nn::MultiHeadAttention(nn::MultiHeadAttentionOptions{
                                             .embed_size = kPositionSize, .heads = 1}));
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
          .make =
              [] {
                return looking_back(over_rows(kSameLength, draw_third_before, symbols_ask()),
                                    /*heads=*/1, nullptr);
              },
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
                return with_added(over_rows(kSameLength, draw_third_before, symbols_ask()),
                                  nn::SinusoidalPositions(
                                      nn::SinusoidalPositionsOptions{.embed_size = kPositionSize}),
                                  /*starts=*/64);
              },
          .steps = 300,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson learned_lesson() {
  return {.name = "learned_positions",
          .mechanism = "learnt positions, Gehring 2017",
          .page = "learned_positions",
          .task = "A row read in an order that has no rule.",
          .make =
              [] {
                return with_added({.draw = draw_shuffled,
                                   .query_symbols = 1,
                                   .key_symbols = kPlaceSymbols,
                                   .value_symbols = kPlaceSymbols,
                                   .size = kPositionSize,
                                   .query_name = [](int64_t) { return "?"; },
                                   .key_name = letter},
                                  nn::LearnedPositions(nn::LearnedPositionsOptions{
                                      .length = kShuffled, .embed_size = kPositionSize}),
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
                    over_rows({12, 16, 48}, draw_jump, distances_ask()),
                    /*heads=*/1,
                    nn::RelativePositions(
                        nn::RelativePositionsOptions{.head_size = kPositionSize, .max_distance = 5})
                        .ptr());
              },
          .steps = 150,
          .batch = 32,
          .learning_rate = 1e-2};
}

Lesson relative_values_lesson() {
  return {.name = "relative_values",
          .mechanism = "relative positions of values, Shaw 2018",
          .page = "relative_positions",
          .task = "Which sign stands at a word, how far away and on which side?",
          .make =
              [] {
                return looking_back(
                    {.draw = draw_distances,
                     .query_symbols = kOrdered,
                     .key_symbols = kOrdered,
                     .value_symbols = kFarSigns * kDistances,
                     .size = kPositionSize,
                     .query_name = letter,
                     .key_name = letter,
                     .value_name = digit},
                    /*heads=*/1,
                    nn::RelativePositions(nn::RelativePositionsOptions{.head_size = kPositionSize,
                                                                       .max_distance = kFar})
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
                return looking_back(over_rows({16, 24, 48}, draw_third_before, symbols_ask()),
                                    /*heads=*/1, backward_buckets().ptr());
              },
          .steps = 300,
          .batch = 32,
          .learning_rate = 5e-2};
}

Lesson t5_jump_lesson() {
  return {.name = "t5_jump",
          .mechanism = "a bias for each bucket of distances, Raffel 2020 (T5)",
          .page = "t5_bias",
          .task = kJumpTask,
          .make =
              [] {
                return looking_back(over_rows(kSameLength, draw_jump, distances_ask()),
                                    /*heads=*/1, backward_buckets().ptr());
              },
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
                    over_rows({12, 16, 32}, draw_jump, distances_ask()),
                    /*heads=*/1,
                    nn::TransformerXLPositions(
                        nn::TransformerXLPositionsOptions{.embed_size = kPositionSize, .heads = 1})
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
                return looking_back(
                    over_rows({16, 24, 72}, draw_nearest_mark, marks_are_asked_for()), kHeads,
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
                return turning(over_rows({12, 16, 16}, draw_jump, distances_ask()),
                               {.head_size = kPositionSize});
              },
          .steps = 250,
          .batch = 32,
          .learning_rate = 1e-2};
}

// Waves that turn less than once within the rows of training.
std::shared_ptr<Learner> four_times_as_long(const nn::RotaryScaling& scaling) {
  return turning(over_rows({14, 16, 64}, draw_scattered_words, words_ask()),
                 {.head_size = kPositionSize, .base = 100, .scaling = scaling});
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
