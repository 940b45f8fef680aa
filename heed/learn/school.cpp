#include "heed/learn/school.h"

#include <ATen/Context.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "heed/train/optimizer.h"
#include "heed/train/schedule.h"

namespace heed::learn {
namespace {

constexpr int64_t kRecentSteps = 100;

// Sums over all batches that were judged.
struct Tally {
  int64_t questions = 0, right = 0;
  int64_t of_where = 0, hits = 0;  // questions with a planted place
  double guess = 0;                // sum of their shares of planted places

  void add(const Answers& answers) {
    questions += answers.targets.size(0);
    right += answers.logits.argmax(1).eq(answers.targets).sum().item<int64_t>();
    if (!answers.weights.defined()) return;
    const at::Tensor asks_where = answers.planted.any(1);                      // [N]
    const at::Tensor looked_at = answers.weights.argmax(1, /*keepdim=*/true);  // [N,1]
    of_where += asks_where.sum().item<int64_t>();
    hits += answers.planted.gather(1, looked_at).sum().item<int64_t>();
    guess += answers.planted.to(at::kDouble).mean(1).sum().item<double>();
  }
};

double share(double part, int64_t whole) {
  return whole > 0 ? part / static_cast<double>(whole) : std::numeric_limits<double>::quiet_NaN();
}

void judge(const Lesson& lesson, int64_t questions, Learner& learner, Report& report) {
  const at::NoGradGuard no_grad;
  learner.eval();
  Tally tally;
  while (tally.questions < questions) tally.add(learner.answer(lesson.batch, Purpose::kJudging));
  report.questions = tally.questions;
  report.accuracy = share(static_cast<double>(tally.right), tally.questions);
  report.hit_rate = share(static_cast<double>(tally.hits), tally.of_where);
  report.chance = share(tally.guess, tally.of_where);
  report.example = learner.example();
}

}  // namespace

bool Report::passed(const Lesson& lesson) const {
  if (lesson.must_fail()) return accuracy < lesson.most_accuracy;
  return accuracy >= kWantedAccuracy && hit_rate >= kWantedHitRate;
}

Report study(const Lesson& lesson, const StudyOptions& options,
             const std::function<bool(const Step&)>& watch) {
  const auto begin = std::chrono::steady_clock::now();
  at::manual_seed(static_cast<uint64_t>(options.seed));
  const std::shared_ptr<Learner> learner = lesson.make();
  const int64_t steps = options.steps > 0 ? options.steps : lesson.steps;
  train::AdamW optimizer(*learner, {.weight_decay = 0});
  const train::Schedule schedule(
      {.name = "linear", .warmup_steps = std::max<int64_t>(1, steps / 20)}, steps);

  Report report;
  for (const at::Tensor& parameter : learner->parameters()) report.parameters += parameter.numel();
  learner->train();
  double recent = 0;  // mean loss of the last steps
  bool go_on = true;
  while (report.steps < steps && go_on) {
    const Answers answers = learner->answer(lesson.batch, Purpose::kTraining);
    const at::Tensor loss = at::cross_entropy_loss(answers.logits, answers.targets);
    optimizer.zero_grad();
    loss.backward();
    optimizer.clip_gradients(1);
    optimizer.step(lesson.learning_rate * schedule.factor(++report.steps));
    const auto value = loss.item<double>();
    recent += (value - recent) / static_cast<double>(std::min(report.steps, kRecentSteps));
    go_on = !watch || watch({report.steps, steps, value});
  }
  report.interrupted = report.steps < steps;
  report.loss = recent;
  judge(lesson, options.judged, *learner, report);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace heed::learn
