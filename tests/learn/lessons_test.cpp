// Each mechanism learns its planted task, and those that can't, don't. A few by default; all where
// HEED_ALL_LESSONS is set.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "heed/learn/school.h"

namespace heed::learn {
namespace {

// Of each group of lessons, what takes a second or two.
const std::set<std::string> kQuick = {
    "additive", "location_dictionary", "local_predictive",   "local_too_short", "rotary",
    "sentinel", "hierarchical",        "squeeze_excitation", "decoder"};

std::vector<Lesson> chosen_lessons() {
  std::vector<Lesson> chosen = all_lessons();
  if (std::getenv("HEED_ALL_LESSONS") == nullptr) {
    std::erase_if(chosen, [](const Lesson& lesson) { return !kQuick.contains(lesson.name); });
  }
  return chosen;
}

class Lessons : public testing::TestWithParam<Lesson> {};

TEST_P(Lessons, EndAsTheyMust) {
  at::set_num_threads(1);  // small sizes
  const Lesson& lesson = GetParam();
  const Report report = study(lesson);
  EXPECT_TRUE(report.passed(lesson))
      << "accuracy " << report.accuracy << ", hit rate " << report.hit_rate;
  EXPECT_LT(report.seconds, 60);
  EXPECT_EQ(report.example.weights.size(),
            report.example.source.size() * report.example.target.size());
  for (const auto& tokens : {report.example.source, report.example.target}) {
    for (const std::string& token : tokens) EXPECT_FALSE(token.starts_with("▁▁")) << token;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Lessons, testing::ValuesIn(chosen_lessons()),
                         [](const auto& tested) { return tested.param.name; });

TEST(LessonList, NamesAreWordsAndUnique) {
  std::set<std::string> names;
  for (const Lesson& lesson : all_lessons()) {
    EXPECT_TRUE(names.insert(lesson.name).second) << lesson.name;
    EXPECT_EQ(lesson.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"),
              std::string::npos)
        << lesson.name;
  }
  for (const std::string& name : kQuick) EXPECT_TRUE(names.contains(name)) << name;
}

TEST(LessonList, EachSaysWhatItIsAndHasAPage) {
  for (const Lesson& lesson : all_lessons()) {
    EXPECT_FALSE(lesson.mechanism.empty()) << lesson.name;
    EXPECT_FALSE(lesson.task.empty()) << lesson.name;
    EXPECT_TRUE(std::filesystem::exists("docs/mechanisms/" + lesson.page + ".md")) << lesson.name;
  }
}

}  // namespace
}  // namespace heed::learn
