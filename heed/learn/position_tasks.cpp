#include "heed/learn/position_tasks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <tuple>

namespace heed::learn {
namespace {

constexpr int64_t kAsking = 8;  // T: the last rows ask

using DrawRow = Symbols (*)(int64_t batch, int64_t length);

SymbolLearnerOptions over_rows(const RowLengths& lengths, DrawRow draw,
                               SymbolLearnerOptions options) {
  options.draw = [=](int64_t batch) {
    const at::Tensor length = at::randint(lengths.shortest, lengths.longest + 1, {});
    return draw(batch, length.item<int64_t>());
  };
  options.draw_judged = [=](int64_t batch) { return draw(batch, lengths.judged); };
  return options;
}

at::Tensor asking_places(int64_t length) { return at::arange(length - kAsking, length); }  // [T]

Symbols draw_third_before(int64_t batch, int64_t length) {
  const at::Tensor row = draw_signs({batch, length});
  return ask_at(row.narrow(1, length - kAsking, kAsking), row, row,
                (asking_places(length) - 3).expand({batch, -1}));
}

constexpr int64_t kFarthest = 4;
Symbols draw_jump(int64_t batch, int64_t length) {
  const at::Tensor row = draw_signs({batch, length});
  const at::Tensor query = at::randint(kFarthest, {batch, kAsking}, at::kLong);
  return ask_at(query, row, row, asking_places(length) - query - 1);
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
                draw_signs({batch, length}), nearest.narrow(1, length - kAsking, kAsking));
}

constexpr int64_t kScattered = 6;
Symbols draw_scattered_words(int64_t batch, int64_t length) {
  const at::Tensor places = draw_words(batch, kScattered, length - kAsking + 1);  // [B,words]
  const at::Tensor keys =
      at::full({batch, length}, kScattered, at::kLong)
          .scatter(1, places, at::arange(kScattered).expand({batch, kScattered}));
  const at::Tensor query = at::randint(kScattered, {batch, kAsking}, at::kLong);
  return ask_at(query, keys, draw_signs({batch, length}), places.gather(1, query));
}

constexpr int64_t kOrdered = 10, kFewSigns = 4;
Symbols draw_sign_and_distance(int64_t batch, int64_t far) {
  const at::Tensor row = draw_orders(batch, kOrdered);
  const at::Tensor place = at::randint(kOrdered, {batch, kOrdered}, at::kLong);  // [B,T]
  const at::Tensor ahead = (place - at::arange(kOrdered)).clamp(-far, far);
  Symbols symbols =
      ask_at(row.gather(1, place), row, draw_signs({batch, kOrdered}, kFewSigns), place);
  symbols.answers = symbols.answers * (2 * far + 1) + ahead + far;
  return symbols;
}

Symbols draw_shuffled(int64_t batch, int64_t length) {
  const at::Tensor row = draw_signs({batch, length});
  const at::Tensor place = (at::arange(length) * 7 + 3).remainder(length);
  return ask_at(at::zeros({batch, length}, at::kLong), row, row, place.expand({batch, -1}));
}

}  // namespace

SymbolLearnerOptions ask_third_before(const RowLengths& lengths) {
  return over_rows(lengths, draw_third_before,
                   {.query_symbols = kSigns,
                    .key_symbols = kSigns,
                    .value_symbols = kSigns,
                    .query_name = letter,
                    .key_name = letter});
}

SymbolLearnerOptions ask_jump(const RowLengths& lengths) {
  return over_rows(lengths, draw_jump,
                   {.query_symbols = kFarthest,
                    .key_symbols = kSigns,
                    .value_symbols = kSigns,
                    .query_name = [](int64_t d) { return "-" + digit(d + 1); },
                    .key_name = letter});
}

SymbolLearnerOptions ask_nearest_mark(const RowLengths& lengths) {
  return over_rows(lengths, draw_nearest_mark,
                   {.query_symbols = 1,
                    .key_symbols = 2,
                    .value_symbols = kSigns,
                    .query_name = question,
                    .key_name = [](int64_t marked) { return marked == 0 ? "." : "*"; },
                    .value_name = digit});
}

SymbolLearnerOptions ask_scattered_words(const RowLengths& lengths) {
  return over_rows(
      lengths, draw_scattered_words,
      {.query_symbols = kScattered,
       .key_symbols = kScattered + 1,
       .value_symbols = kSigns,
       .query_name = letter,
       .key_name = [](int64_t word) { return word == kScattered ? "." : letter(word); },
       .value_name = digit});
}

SymbolLearnerOptions ask_sign_and_distance(int64_t far) {
  return {.draw = [far](int64_t batch) { return draw_sign_and_distance(batch, far); },
          .query_symbols = kOrdered,
          .key_symbols = kOrdered,
          .value_symbols = kFewSigns * (2 * far + 1),
          .query_name = letter,
          .key_name = letter,
          .value_name = digit};
}

SymbolLearnerOptions ask_shuffled(int64_t length) {
  return {.draw = [length](int64_t batch) { return draw_shuffled(batch, length); },
          .query_symbols = 1,
          .key_symbols = kSigns,
          .value_symbols = kSigns,
          .query_name = question,
          .key_name = letter};
}

}  // namespace heed::learn
