// Trains a lesson's learner from a seed and judges it on examples it has not seen.
#pragma once

#include <functional>
#include <memory>

#include "heed/learn/lesson.h"

namespace heed::learn {

struct StudyOptions {
  int64_t seed = 1;
  int64_t steps = 0;      // 0: the lesson's
  int64_t judged = 1000;  // questions, at least
};

struct Step {
  int64_t step, steps;
  double loss;
};

struct Report {
  double accuracy = 0;  // of the answers
  double hit_rate = 0;  // questions whose largest weight lies on a planted place
  double chance = 0;    // hit rate of a guess: the mean share of places that are planted
  int64_t questions = 0, parameters = 0, steps = 0;
  double loss = 0;  // of the last hundred steps, mean
  double seconds = 0;
  bool interrupted = false;
  Alignment example = {};

  bool passed(const Lesson& lesson) const;
};

inline constexpr double kWantedHitRate = 0.98, kWantedAccuracy = 0.98;

// Sets torch's default generator. `watch` is called after each step; false ends the training.
Report study(const Lesson& lesson, const StudyOptions& options = {},
             const std::function<bool(const Step&)>& watch = {});

}  // namespace heed::learn
