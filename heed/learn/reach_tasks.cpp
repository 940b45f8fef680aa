#include "heed/learn/reach_tasks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>

namespace heed::learn {
namespace {

std::string word_name(int64_t word) { return word < 26 ? letter(word) : capital(word - 26); }

}  // namespace

at::Tensor draw_verses(int64_t batch, int64_t length, int64_t words) {
  return draw_orders(batch, words).index_select(1, at::arange(length).remainder(words));
}

Symbols ask_within(const at::Tensor& keys, const at::Tensor& seen) {
  const at::Tensor lot = at::rand({keys.size(0), seen.size(1), seen.size(2)});
  const at::Tensor place = lot.masked_fill(~seen, -1).argmax(2);  // [B,T]
  return ask_at(keys.gather(1, place), keys, draw_signs(keys.sizes()), place);
}

at::Tensor offsets(int64_t length) {
  return at::arange(length).unsqueeze(0) - at::arange(length).unsqueeze(1);
}

at::Tensor draw_documents(int64_t batch, int64_t length, int64_t longest) {
  const int64_t shortest = 4, most = (length + shortest - 1) / shortest;
  const at::Tensor ends = at::randint(shortest, longest + 1, {batch, most}, at::kLong).cumsum(1);
  return at::arange(length).view({1, length, 1}).ge(ends.unsqueeze(1)).sum(2);
}

Symbols draw_word_of_verse(int64_t batch, int64_t queries, int64_t verses, int64_t words) {
  const int64_t S = verses * words;
  const at::Tensor keys = at::arange(S).remainder(words).expand({batch, S});
  const at::Tensor place = at::randint(S, {batch, queries}, at::kLong);
  return ask_at(place, keys, draw_signs(keys.sizes()), place);
}

Symbols draw_headline(int64_t batch, int64_t length) {
  const at::Tensor places = at::arange(length);
  const at::Tensor mark = at::randint(1, length, {batch, 1}, at::kLong);
  const at::Tensor asks_left = at::rand({batch, length}).lt(0.5).logical_and(places.ge(2));
  const at::Tensor query = asks_left.to(at::kLong).masked_fill(places.eq(0), kAskMark);
  const at::Tensor place = at::where(asks_left, places - 2, 0).where(places.gt(0), mark);
  return ask_at(query, places.eq(mark).to(at::kLong), draw_signs({batch, length}), place);
}

SymbolLearnerOptions over_words(int64_t words, std::function<Symbols(int64_t)> draw) {
  return {.draw = std::move(draw),
          .query_symbols = words,
          .key_symbols = words,
          .value_symbols = kSigns,
          .query_name = word_name,
          .key_name = word_name,
          .value_name = digit};
}

SymbolLearnerOptions over_dictionary(int64_t queries, int64_t length, int64_t words) {
  SymbolLearnerOptions options = over_words(
      words, [=](int64_t B) { return draw_dictionary(B, queries, length, words, kSigns); });
  options.query_name = [=](int64_t word) { return word_name(words - 1 - word); };
  return options;
}

SymbolLearnerOptions over_recent_words(int64_t length, int64_t reach) {
  return over_words(length, [=](int64_t B) {
    const at::Tensor seen = offsets(length).le(0) & offsets(length).gt(-reach);  // [T,S]
    return ask_within(draw_verses(B, length, length), seen.unsqueeze(0));
  });
}

}  // namespace heed::learn
