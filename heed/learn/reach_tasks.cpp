#include "heed/learn/reach_tasks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>

namespace heed::learn {
namespace {

// place [B,T] of each answer among keys [B,S].
Symbols ask_for(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& place,
                int64_t symbols) {
  const at::Tensor values = at::randint(symbols, keys.sizes(), at::kLong);
  return {.query = query,
          .keys = keys,
          .values = values,
          .answers = values.gather(1, place),
          .planted = place.unsqueeze(2).eq(at::arange(keys.size(1)))};
}

}  // namespace

at::Tensor draw_verses(int64_t batch, int64_t length, int64_t words) {
  const at::Tensor verse = at::rand({batch, words}).argsort(int64_t{1});
  return verse.index_select(1, at::arange(length).remainder(words));
}

Symbols ask_within(const at::Tensor& keys, const at::Tensor& seen, int64_t symbols) {
  const at::Tensor lot = at::rand({keys.size(0), seen.size(1), seen.size(2)});
  const at::Tensor place = lot.masked_fill(~seen, -1).argmax(2);  // [B,T]
  return ask_for(keys.gather(1, place), keys, place, symbols);
}

at::Tensor offsets(int64_t length) {
  return at::arange(length).unsqueeze(0) - at::arange(length).unsqueeze(1);
}

at::Tensor draw_documents(int64_t batch, int64_t length, int64_t longest) {
  const int64_t shortest = 4, most = (length + shortest - 1) / shortest;
  const at::Tensor ends = at::randint(shortest, longest + 1, {batch, most}, at::kLong).cumsum(1);
  return at::arange(length).view({1, length, 1}).ge(ends.unsqueeze(1)).sum(2);
}

Symbols draw_word_of_verse(int64_t batch, int64_t queries, int64_t verses, int64_t words,
                           int64_t symbols) {
  const int64_t S = verses * words;
  const at::Tensor keys = at::arange(S).remainder(words).expand({batch, S});
  const at::Tensor place = at::randint(S, {batch, queries}, at::kLong);
  return ask_for(place, keys, place, symbols);
}

Symbols draw_headline(int64_t batch, int64_t length, int64_t symbols) {
  const at::Tensor places = at::arange(length);
  const at::Tensor mark = at::randint(1, length, {batch, 1}, at::kLong);
  const at::Tensor asks_left = at::rand({batch, length}).lt(0.5).logical_and(places.ge(2));
  const at::Tensor query = asks_left.to(at::kLong).masked_fill(places.eq(0), kAskMark);
  const at::Tensor place = at::where(asks_left, places - 2, 0).where(places.gt(0), mark);
  return ask_for(query, places.eq(mark).to(at::kLong), place, symbols);
}

}  // namespace heed::learn
