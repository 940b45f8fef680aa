// What study does with a lesson, on learners small enough to be worked out by hand.
#include "heed/learn/school.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "heed/learn/symbols.h"
#include "heed/nn/dot_attention.h"

namespace heed::learn {
namespace {

// Gives the same answers each time, and counts what it was asked.
class Fixed : public Learner {
 public:
  explicit Fixed(Answers answers) : answers_(std::move(answers)) {
    parameter_ = register_parameter("parameter", at::zeros({5}));
  }

  Answers answer(int64_t, Purpose purpose) override {
    if (purpose == Purpose::kJudging) {
      ++judged;
      EXPECT_FALSE(c10::GradMode::is_enabled());
      EXPECT_FALSE(is_training());
      return answers_;
    }
    ++trained;
    EXPECT_TRUE(is_training());
    Answers answers = answers_;
    answers.logits = answers.logits + parameter_.sum();
    answers.weights = at::Tensor();
    return answers;
  }

  Alignment example() override {
    return shown({"a", "b"}, {"c"}, at::tensor({0.25, 0.75}).view({1, 2}),
                 at::tensor({0, 1}).view({1, 2}));
  }

  int trained = 0, judged = 0;

 private:
  Answers answers_;
  at::Tensor parameter_;
};

Lesson lesson_of(std::shared_ptr<Learner> learner) {
  return {.name = "fixed", .make = [learner] { return learner; }, .steps = 10, .batch = 4};
}

// Four questions of two classes, three answered right; their places: one hit, one miss, one hit
// among two planted, one without a place.
Answers four_questions() {
  return {.logits = at::tensor({2., 1., 1., 2., 1., 2., 2., 1.}).view({4, 2}),
          .targets = at::tensor({0, 1, 0, 0}, at::kLong),
          .weights = at::tensor({.7, .1, .1, .1,  //
                                 .1, .6, .2, .1,  //
                                 .2, .3, .1, .4,  //
                                 .9, .1, .0, .0})
                         .view({4, 4}),
          .planted = at::tensor({1, 0, 0, 0,  //
                                 0, 0, 1, 0,  //
                                 1, 0, 0, 1,  //
                                 0, 0, 0, 0})
                         .view({4, 4})
                         .to(at::kBool)};
}

TEST(Study, CountsAnswersAndHits) {
  const Report report = study(lesson_of(std::make_shared<Fixed>(four_questions())));
  EXPECT_EQ(report.accuracy, 0.75);
  EXPECT_NEAR(report.hit_rate, 2. / 3, 1e-12);  // the fourth question is none of where
  EXPECT_NEAR(report.chance, (0.25 + 0.25 + 0.5) / 3, 1e-12);
  EXPECT_EQ(report.questions, 1000);
  EXPECT_EQ(report.parameters, 5);
}

TEST(Study, JudgesAtLeastAsManyQuestionsAsWanted) {
  const auto learner = std::make_shared<Fixed>(four_questions());
  EXPECT_EQ(study(lesson_of(learner), {.judged = 7}).questions, 8);
  EXPECT_EQ(learner->judged, 2);
}

TEST(Study, TrainsTheLessonsStepsOrThoseWanted) {
  const auto learner = std::make_shared<Fixed>(four_questions());
  EXPECT_EQ(study(lesson_of(learner)).steps, 10);
  EXPECT_EQ(learner->trained, 10);
  EXPECT_EQ(study(lesson_of(learner), {.steps = 3}).steps, 3);
  EXPECT_EQ(learner->trained, 13);
}

TEST(Study, WatchSeesEachStepAndEndsTheTraining) {
  const auto learner = std::make_shared<Fixed>(four_questions());
  std::vector<int64_t> seen;
  const Report report = study(lesson_of(learner), {}, [&](const Step& step) {
    EXPECT_EQ(step.steps, 10);
    EXPECT_GT(step.loss, 0);
    seen.push_back(step.step);
    return step.step < 4;
  });
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_TRUE(report.interrupted);
  EXPECT_EQ(report.steps, 4);
  EXPECT_EQ(report.accuracy, 0.75);  // judged all the same
  EXPECT_FALSE(
      study(lesson_of(learner), {}, [](const Step& step) { return step.step < 10; }).interrupted);
}

TEST(Study, WithoutWeightsThereIsNoHitRateAndNoPass) {
  Answers answers = four_questions();
  answers.targets = answers.logits.argmax(1);
  answers.weights = at::Tensor();
  const Lesson lesson = lesson_of(std::make_shared<Fixed>(answers));
  const Report report = study(lesson);
  EXPECT_EQ(report.accuracy, 1);
  EXPECT_TRUE(std::isnan(report.hit_rate));
  EXPECT_FALSE(report.passed(lesson));
}

TEST(Report, PassesByBothRatesAndFailsByAccuracy) {
  Lesson lesson;
  EXPECT_TRUE((Report{.accuracy = 0.98, .hit_rate = 0.98}.passed(lesson)));
  EXPECT_FALSE((Report{.accuracy = 0.97, .hit_rate = 1}.passed(lesson)));
  EXPECT_FALSE((Report{.accuracy = 1, .hit_rate = 0.97}.passed(lesson)));
  lesson.cannot = "it sees nothing";
  lesson.most_accuracy = 0.3;
  EXPECT_TRUE((Report{.accuracy = 0.29}.passed(lesson)));
  EXPECT_FALSE((Report{.accuracy = 0.31}.passed(lesson)));
}

// The answer stands at the marked place, which a learner of marks finds.
Lesson marked(Attend attend) {
  return {.name = "marked",
          .make =
              [attend] {
                return std::make_shared<SymbolLearner>(
                    SymbolLearnerOptions{.draw = [](int64_t B) { return draw_marked(B, 1, 5, 4); },
                                         .query_symbols = 1,
                                         .key_symbols = 2,
                                         .value_symbols = 4,
                                         .size = 8,
                                         .value_name = digit},
                    nullptr, attend);
              },
          .steps = 150,
          .learning_rate = 3e-2};
}

nn::AttentionOutput dot(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                        const at::Tensor& lengths, nn::Weights weights) {
  return nn::DotAttention()->forward(query, keys, values, lengths, weights);
}

// Looks at all places alike.
nn::AttentionOutput blind(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                          const at::Tensor& lengths, nn::Weights weights) {
  return dot(query * 0, keys, values, lengths, weights);
}

TEST(Study, ALearnerThatSeesTheMarkPasses) {
  const Lesson lesson = marked(dot);
  const Report report = study(lesson);
  EXPECT_TRUE(report.passed(lesson)) << report.accuracy << " " << report.hit_rate;
  EXPECT_DOUBLE_EQ(report.chance, 0.2);
  EXPECT_LT(report.loss, 0.5);
  EXPECT_EQ(report.parameters, 1 * 8 + 2 * 8 + 4 * 8 + 8 * 4 + 4);
}

TEST(Study, ALearnerThatDoesNotIsReportedSo) {
  const Lesson lesson = marked(blind);
  const Report report = study(lesson);
  EXPECT_FALSE(report.passed(lesson));
  EXPECT_LT(report.accuracy, 0.7);
  EXPECT_LT(report.hit_rate, 0.4);
}

TEST(Study, IsTheSameForTheSameSeedOnly) {
  const Lesson lesson = marked(dot);
  const Report once = study(lesson, {.seed = 7, .steps = 20}),
               again = study(lesson, {.seed = 7, .steps = 20}),
               other = study(lesson, {.seed = 8, .steps = 20});
  EXPECT_EQ(once.loss, again.loss);
  EXPECT_EQ(once.accuracy, again.accuracy);
  EXPECT_EQ(once.example.weights, again.example.weights);
  EXPECT_EQ(once.example.source, again.example.source);
  EXPECT_NE(once.loss, other.loss);
}

TEST(Study, ShowsAnExampleWithItsPlantedPlaces) {
  const Alignment example = study(marked(dot), {.steps = 1}).example;
  ASSERT_EQ(example.source.size(), 5U);
  ASSERT_EQ(example.target.size(), 1U);
  EXPECT_EQ(std::count(example.planted.begin(), example.planted.end(), true), 1);
  for (size_t s = 0; s < 5; ++s) {  // "▁mark:value"
    EXPECT_EQ(example.source[s].substr(0, 5), example.is_planted(0, s) ? "▁1:" : "▁0:");
  }
}

}  // namespace
}  // namespace heed::learn
