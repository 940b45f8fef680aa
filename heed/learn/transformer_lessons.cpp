// Lessons of the Transformer's blocks: what one attention can't do, two in a row can.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/learn/transformer_learners.h"

namespace heed::learn {
namespace {

// --- Sorting -----------------------------------------------------------------------------------

constexpr int64_t kSorted = 6, kSortedNumbers = 12, kSortedDigits = 10;

AskingRow draw_numbers_to_sort(int64_t batch) {
  const at::Tensor numbers = draw_words(batch, kSorted, kSortedNumbers);  // [B,S]
  const at::Tensor digits = draw_signs({batch, kSorted}, kSortedDigits);
  const at::Tensor place = numbers.argsort(/*dim=*/1, /*descending=*/false);
  return {.symbols = numbers,
          .answers = digits.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(kSorted)),
          .notes = digits};
}

RowLearnerOptions sorting(int64_t layers) {
  return {.draw = draw_numbers_to_sort,
          .symbols = kSortedNumbers,
          .notes = kSortedDigits,
          .answers = kSortedDigits,
          .layers = layers,
          .places = true};
}

// --- Induction ---------------------------------------------------------------------------------

constexpr int64_t kText = 10, kRepeated = 4, kTextLetters = 16;

// Letters, all different; then some of them once more, each asking for what followed it.
AskingRow draw_induction(int64_t batch) {
  const at::Tensor text = draw_words(batch, kText, kTextLetters);    // [B,10]
  const at::Tensor place = draw_words(batch, kRepeated, kText - 1);  // [B,4]
  const at::Tensor row = at::cat({text, text.gather(1, place)}, 1);  // [B,14]
  const at::Tensor following = at::cat({at::zeros({batch, kText}, at::kLong), place + 1}, 1);
  return {.symbols = row,
          .answers = row.gather(1, following),
          .planted = following.unsqueeze(2).eq(at::arange(kText + kRepeated)),
          .first = kText};
}

RowLearnerOptions induction(int64_t layers) {
  return {.draw = draw_induction,
          .symbols = kTextLetters,
          .answers = kTextLetters,
          .layers = layers,
          .distances = true,
          .call = {.causal = Causal::kTopLeft}};
}
const char* const kInduction =
    "A row of letters, and some of them once more: which letter followed that one before?";

// --- Farther than a window ---------------------------------------------------------------------

constexpr int64_t kRow = 14, kOffset = 6, kWindow = 3, kLetters = 10;

AskingRow draw_far_copy(int64_t batch) {
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

}  // namespace

std::vector<Lesson> transformer_lessons() {
  const std::string page = "transformer";
  return {
      {.name = "encoder",
       .mechanism = "Transformer encoder, Vaswani 2017",
       .page = page,
       .task = "Entries number:digit stand in any order; place t asks for the digit of the t-th "
               "smallest number: one layer finds out how many are smaller, the next looks there.",
       .make = [] { return row_learner(sorting(2)); },
       .steps = 1200},
      {.name = "encoder_one_layer",
       .mechanism = "Transformer encoder, one layer",
       .page = page,
       .task = "The same: the digit of the t-th smallest number.",
       .make = [] { return row_learner(sorting(1)); },
       .steps = 600,
       .cannot = "Which number is the t-th is a matter of all the others, and a single layer looks "
                 "at each before it knows of them.",
       .most_accuracy = 0.8},
      {.name = "decoder",
       .mechanism = "Transformer decoder with caches, Vaswani 2017",
       .page = page,
       .task = "Each entry is a word and its successor; from a first word on the decoder writes "
               "the chain of successors, looking up each word that it wrote itself.",
       .make = chain_learner,
       .steps = 500},
      {.name = "induction",
       .mechanism = "causal self-attention, two layers (induction heads, Olsson 2022)",
       .page = page,
       .task = kInduction,
       .make = [] { return row_learner(induction(2)); },
       .steps = 600},
      {.name = "induction_one_layer",
       .mechanism = "causal self-attention, one layer",
       .page = page,
       .task = kInduction,
       .make = [] { return row_learner(induction(1)); },
       .steps = 300,
       .cannot = "The place to look at is known by the letter before it, and a key of the first "
                 "layer knows of its own letter alone."},
      {.name = "window_stack",
       .mechanism = "causal self-attention within a window, two layers",
       .page = page,
       .task = kFarCopy,
       .make = [] { return row_learner(far_copy(2)); },
       .steps = 500},
      {.name = "window_one_layer",
       .mechanism = "causal self-attention within a window, one layer",
       .page = page,
       .task = kFarCopy,
       .make = [] { return row_learner(far_copy(1)); },
       .steps = 300,
       .cannot = "The window ends before the place: nothing that stands there can pass."},
  };
}

}  // namespace heed::learn
