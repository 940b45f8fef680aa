#include "heed/models/beam_search.h"

#include <ATen/Context.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace heed::models {
namespace {

constexpr int64_t kVocabulary = 5, kBegin = 0, kEnd = 1;

// log p(next | written so far) from a table of random numbers: one distribution a history.
class HistoryDecoder final : public StepDecoder {
 public:
  explicit HistoryDecoder(int64_t sentences) {
    for (int64_t b = 0; b < sentences; ++b) histories_.push_back({b + 100});
  }
  static at::Tensor distribution(const std::vector<int64_t>& history) {
    uint64_t hash = 1469598103934665603U;
    for (const int64_t token : history)
      hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211U;
    std::vector<float> logits;
    for (int64_t v = 0; v < kVocabulary; ++v) {
      hash = hash * 6364136223846793005U + 1442695040888963407U;
      logits.push_back(static_cast<float>(hash >> 40) / 4e6F);  // 0 to about 4
    }
    return at::log_softmax(at::tensor(logits), 0);
  }
  void select(const at::Tensor& rows) override {
    std::vector<std::vector<int64_t>> selected;
    for (int64_t i = 0; i < rows.numel(); ++i) {
      selected.push_back(histories_[static_cast<size_t>(rows[i].item<int64_t>())]);
    }
    histories_ = std::move(selected);
  }
  Step step(const at::Tensor& tokens) override {
    std::vector<at::Tensor> rows, weights;
    for (size_t i = 0; i < histories_.size(); ++i) {
      histories_[i].push_back(tokens[static_cast<int64_t>(i)].item<int64_t>());
      rows.push_back(distribution(histories_[i]));
      weights.push_back(at::tensor(
          {static_cast<float>(histories_[i][0]), static_cast<float>(histories_[i].size())}));
    }
    return {at::stack(rows), at::stack(weights)};
  }

 private:
  std::vector<std::vector<int64_t>> histories_;
};

struct Found {
  std::vector<int64_t> tokens;
  double score;
};

// Every sentence of at most `length` tokens, the end mark (or the limit) included, best first.
std::vector<Found> exhaustive(int64_t sentence, int64_t length, double alpha) {
  std::vector<Found> all;
  const std::function<void(std::vector<int64_t>, std::vector<int64_t>, double)> grow =
      [&](std::vector<int64_t> history, std::vector<int64_t> tokens, double log_p) {
        const at::Tensor next = HistoryDecoder::distribution(history);
        const auto written = static_cast<int64_t>(tokens.size()) + 1;
        for (int64_t v = 1; v < kVocabulary; ++v) {
          const double total = log_p + static_cast<double>(next[v].item<float>());
          auto longer = tokens;
          if (v != kEnd) longer.push_back(v);
          if (v == kEnd || written == length) {
            all.push_back(
                {longer, total / std::pow((5.0 + static_cast<double>(written)) / 6, alpha)});
          } else {
            auto h = history;
            h.push_back(v);
            grow(h, longer, total);
          }
        }
      };
  grow({sentence + 100, kBegin}, {}, 0);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  return all;
}

const Marks kMarks{.begin = kBegin, .end = kEnd, .never = {kBegin}};

TEST(BeamSearch, AWideBeamFindsWhatExhaustionFinds) {
  for (const double alpha : {0.0, 1.0}) {
    HistoryDecoder decoder(3);
    const auto found = beam_search(
        decoder, 3, kMarks, {.beam = 300, .n_best = 4, .length_penalty = alpha, .max_length = 4});
    ASSERT_EQ(found.size(), 3);
    for (int64_t b = 0; b < 3; ++b) {
      const auto expected = exhaustive(b, 4, alpha);
      for (size_t n = 0; n < 4; ++n) {
        const Hypothesis& hypothesis = found[static_cast<size_t>(b)][n];
        EXPECT_EQ(hypothesis.tokens, expected[n].tokens) << b << " " << n;
        EXPECT_NEAR(hypothesis.score, expected[n].score, 1e-5);
      }
    }
  }
}

TEST(BeamSearch, BeamOneTakesTheMostProbableTokenEachTime) {
  HistoryDecoder decoder(1);
  const auto found = beam_search(decoder, 1, kMarks, {.beam = 1, .max_length = 12});
  std::vector<int64_t> history = {100, kBegin}, expected;
  for (int64_t i = 0; i < 12; ++i) {
    at::Tensor next = HistoryDecoder::distribution(history);
    next[kBegin] = -1e9;
    const int64_t best = next.argmax().item<int64_t>();
    if (best == kEnd) break;
    expected.push_back(best);
    history.push_back(best);
  }
  EXPECT_EQ(found[0][0].tokens, expected);
}

TEST(BeamSearch, AWiderBeamIsNotWorseHere) {
  double previous = -1e9;
  for (const int64_t beam : {1, 3, 10, 100}) {
    HistoryDecoder decoder(1);
    const auto found =
        beam_search(decoder, 1, kMarks, {.beam = beam, .length_penalty = 0, .max_length = 5});
    EXPECT_GE(found[0][0].score, previous - 1e-9);
    previous = found[0][0].score;
  }
}

TEST(BeamSearch, WeightsFollowTheirSentenceAndStep) {
  HistoryDecoder decoder(2);
  const auto found = beam_search(decoder, 2, kMarks, {.beam = 4, .n_best = 4, .max_length = 6});
  for (size_t b = 0; b < 2; ++b) {
    for (const Hypothesis& hypothesis : found[b]) {
      ASSERT_GE(hypothesis.weights.size(), hypothesis.tokens.size());
      for (size_t t = 0; t < hypothesis.weights.size(); ++t) {
        EXPECT_EQ(hypothesis.weights[t][0], static_cast<float>(100 + b));
        EXPECT_EQ(hypothesis.weights[t][1], static_cast<float>(t + 2));
      }
    }
  }
}

TEST(BeamSearch, NeverWritesWhatIsForbidden) {
  HistoryDecoder decoder(1);
  const Marks marks{.begin = kBegin, .end = kEnd, .never = {kBegin, 2, 3}};
  const auto found = beam_search(decoder, 1, marks, {.beam = 10, .n_best = 10, .max_length = 6});
  for (const Hypothesis& hypothesis : found[0]) {
    for (const int64_t token : hypothesis.tokens) EXPECT_EQ(token, 4);
  }
}

}  // namespace
}  // namespace heed::models
