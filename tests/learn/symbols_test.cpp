// The planted place of each task truly holds the answer.
#include "heed/learn/symbols.h"

#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace heed::learn {
namespace {

constexpr int64_t B = 50;

// Sizes, alphabets, and that at each planted place stands the row's answer; `places` of them in
// each of a row's questions (-1: any number).
void expect_answers_at_planted_places(const Symbols& drawn, int64_t T, int64_t S,
                                      int64_t value_symbols, int64_t places = 1) {
  ASSERT_EQ(drawn.query.sizes(), (at::IntArrayRef{B, T}));
  ASSERT_EQ(drawn.keys.sizes(), (at::IntArrayRef{B, S}));
  ASSERT_EQ(drawn.values.sizes(), (at::IntArrayRef{B, S}));
  ASSERT_EQ(drawn.answers.sizes(), (at::IntArrayRef{B, T}));
  ASSERT_EQ(drawn.planted.sizes(), (at::IntArrayRef{B, T, S}));
  ASSERT_EQ(drawn.planted.scalar_type(), at::kBool);
  const at::Tensor right = drawn.values.unsqueeze(1).eq(drawn.answers.unsqueeze(2));  // [B,T,S]
  EXPECT_TRUE(right.logical_or(drawn.planted.logical_not()).all().item<bool>());
  if (places >= 0) {
    EXPECT_TRUE(drawn.planted.sum(2).eq(places).all().item<bool>());
  }
  EXPECT_EQ(drawn.values.min().item<int64_t>(), 0);
  EXPECT_EQ(drawn.values.max().item<int64_t>(), value_symbols - 1);
}

at::Tensor place_of(const Symbols& drawn) { return drawn.planted.to(at::kLong).argmax(2); }

TEST(Tasks, CopyStandsWhereItIsAsked) {
  const Symbols drawn = draw_copy(B, 7, 5);
  expect_answers_at_planted_places(drawn, 7, 7, 5);
  EXPECT_TRUE(place_of(drawn).eq(at::arange(7)).all().item<bool>());
  EXPECT_TRUE(drawn.answers.equal(drawn.values));
  EXPECT_TRUE(drawn.query.eq(0).all().item<bool>());  // gives nothing away
}

TEST(Tasks, ReverseStandsAtTheOtherEnd) {
  const Symbols drawn = draw_reverse(B, 7, 5);
  expect_answers_at_planted_places(drawn, 7, 7, 5);
  EXPECT_TRUE(drawn.answers.equal(drawn.values.flip(1)));
  EXPECT_TRUE(drawn.query.eq(0).all().item<bool>());
}

TEST(Tasks, OffsetStandsSoManyPlacesBefore) {
  const Symbols drawn = draw_offset(B, 7, 3, 5);
  expect_answers_at_planted_places(drawn, 7, 7, 5, -1);
  EXPECT_TRUE(drawn.answers.narrow(1, 3, 4).equal(drawn.values.narrow(1, 0, 4)));
  EXPECT_TRUE(drawn.answers.narrow(1, 0, 3).eq(0).all().item<bool>());
  EXPECT_FALSE(drawn.planted.narrow(1, 0, 3).any().item<bool>());
  EXPECT_TRUE(place_of(drawn).narrow(1, 3, 4).eq(at::arange(4)).all().item<bool>());
}

TEST(Tasks, DictionaryStandsAtTheQueriesWord) {
  const Symbols drawn = draw_dictionary(B, 4, 6, 9, 5);
  expect_answers_at_planted_places(drawn, 4, 6, 5);
  const at::Tensor word = drawn.keys.gather(1, place_of(drawn));  // [B,T]
  EXPECT_TRUE((drawn.query + word).eq(9 - 1).all().item<bool>());
  // No word stands twice in a row, and each stands somewhere.
  EXPECT_TRUE(drawn.keys.unsqueeze(1).eq(drawn.keys.unsqueeze(2)).sum(2).eq(1).all().item<bool>());
  EXPECT_EQ(drawn.keys.max().item<int64_t>(), 8);
  EXPECT_THROW(draw_dictionary(B, 4, 6, 5, 5), c10::Error);
}

TEST(Tasks, FirstOfKindStandsAtNoLaterOne) {
  const Symbols drawn = draw_first_of_kind(B, 8, 3, 5);
  expect_answers_at_planted_places(drawn, 3, 8, 5);
  const at::Tensor place = place_of(drawn);  // [B,T]
  EXPECT_TRUE(drawn.keys.gather(1, place).equal(drawn.query));
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < 3; ++t) {
      const auto first = place[b][t].item<int64_t>();
      const at::Tensor before = drawn.keys[b].narrow(0, 0, first);
      EXPECT_FALSE(before.eq(drawn.query[b][t]).any().item<bool>());
    }
  }
  EXPECT_THROW(draw_first_of_kind(B, 2, 3, 5), c10::Error);
}

TEST(Tasks, MarkedStandsAtTheMark) {
  const Symbols drawn = draw_marked(B, 2, 6, 5);
  expect_answers_at_planted_places(drawn, 2, 6, 5);
  EXPECT_TRUE(drawn.keys.sum(1).eq(1).all().item<bool>());
  EXPECT_TRUE(drawn.planted.select(1, 1).to(at::kLong).equal(drawn.keys));
}

TEST(SymbolLearner, JudgesByTheRowsDrawnForThat) {
  const auto copies = [](int64_t length) {
    return [=](int64_t batch) { return draw_copy(batch, length, 5); };
  };
  SymbolLearner learner(
      {.draw = copies(4),
       .query_symbols = 1,
       .key_symbols = 5,
       .value_symbols = 5,
       .draw_judged = copies(6)},
      nullptr,
      [](const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
         const at::Tensor&, nn::Weights) -> nn::AttentionOutput {
        return {.output = values,
                .weights = at::ones({query.size(0), query.size(1), keys.size(1)})};
      });
  EXPECT_EQ(learner.answer(B, Purpose::kTraining).targets.size(0), B * 4);
  EXPECT_EQ(learner.answer(B, Purpose::kJudging).planted.sizes(), (at::IntArrayRef{B * 6, 6}));
  EXPECT_EQ(learner.example().source.size(), 4U);
}

TEST(Tasks, DrawFromTorchsGenerator) {
  at::manual_seed(3);
  const Symbols once = draw_dictionary(B, 4, 6, 9, 5);
  at::manual_seed(3);
  EXPECT_TRUE(draw_dictionary(B, 4, 6, 9, 5).keys.equal(once.keys));
  EXPECT_FALSE(draw_dictionary(B, 4, 6, 9, 5).keys.equal(once.keys));
}

}  // namespace
}  // namespace heed::learn
