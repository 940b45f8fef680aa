// Lessons of self-attention on feature maps: which pixel, by content or by place.
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/non_local_attention.h"
#include "heed/nn/relative_positions_2d.h"

namespace heed::learn {
namespace {

constexpr int64_t kSide = 6, kPixels = kSide * kSide;

// Questions that the pixels of a map ask one another.
struct Pixels {
  std::vector<at::Tensor> symbols;  // [B,T] int64 each: what is known of a pixel
  at::Tensor asked;                 // [B,T] int64, the pixel whose value is asked for
};
struct PixelTask {
  std::vector<int64_t> alphabets;  // sizes; the first is that of the values
  std::function<Pixels(int64_t batch)> draw;
};

// A pixel is the sum of its symbols' embeddings; the answer is read off the module's output there.
class PixelLearner : public Learner {
 public:
  PixelLearner(PixelTask task, const nn::NonLocalAttentionOptions& options)
      : task_(std::move(task)) {
    for (size_t i = 0; i < task_.alphabets.size(); ++i) {
      embeddings_.push_back(register_parameter("embedding" + std::to_string(i),
                                               at::randn({task_.alphabets[i], kWidth})));
    }
    attention_ = register_module("attention", nn::NonLocalAttention(options));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Pixels pixels = task_.draw(batch);
    const nn::AttentionOutput seen = look(pixels, weights_for(purpose));
    const at::Tensor answers = pixels.symbols[0].gather(1, pixels.asked.clamp_min(0));
    // Pixels that ask for none are no question.
    const at::Tensor asks = pixels.asked.ge(0);  // [B,T]
    return {
        .logits = reading_(seen.output.flatten(2).transpose(1, 2)).index({asks}),
        .targets = answers.index({asks}),
        .weights = seen.weights.defined() ? seen.weights.squeeze(1).index({asks}) : at::Tensor(),
        .planted = pixels.asked.unsqueeze(2).eq(at::arange(kPixels)).index({asks})};
  }

  // Four pixels' questions, a map of weights each.
  Alignment example() override {
    const Answers one = answer(1, Purpose::kJudging);
    const int64_t n = one.weights.size(0);
    const auto maps = [&](const at::Tensor& x) {
      return x.index_select(0, at::arange(4) * (n / 4)).view({4, kSide, kSide});
    };
    return shown_maps(maps(one.weights), maps(one.planted));
  }

 private:
  nn::AttentionOutput look(const Pixels& pixels, nn::Weights weights) {
    at::Tensor x = at::embedding(embeddings_[0], pixels.symbols[0]);  // [B,T,E]
    for (size_t i = 1; i < embeddings_.size(); ++i) {
      x = x + at::embedding(embeddings_[i], pixels.symbols[i]);
    }
    return attention_(x.transpose(1, 2).unflatten(2, {kSide, kSide}), weights);
  }

  PixelTask task_;
  std::vector<at::Tensor> embeddings_;  // [symbols,E]
  nn::NonLocalAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

nn::NonLocalAttentionOptions non_local(int64_t radius, const nn::RelativePositions2d& positions) {
  return {.channels = kWidth, .scale = 0.1, .radius = radius, .positions = positions};
}

at::Tensor row_of(const at::Tensor& pixel) { return pixel.div(kSide, "floor"); }
at::Tensor column_of(const at::Tensor& pixel) { return pixel.remainder(kSide); }

// Each pixel has a word of its own and asks for the word of one at least three rows or columns
// away.
PixelTask far_words() {
  return {.alphabets = {kSigns, kPixels, kPixels}, .draw = [](int64_t batch) {
            const at::Tensor pixels = at::arange(kPixels), others = pixels.unsqueeze(1);
            const at::Tensor far = (row_of(pixels) - row_of(others)).abs().ge(3) |
                                   (column_of(pixels) - column_of(others)).abs().ge(3);  // [T,T]
            const at::Tensor words = draw_orders(batch, kPixels);
            const at::Tensor asked = (at::rand({batch, kPixels, kPixels}) * far).argmax(2);
            return Pixels{{draw_signs({batch, kPixels}), words, words.gather(1, asked)}, asked};
          }};
}

// The pixel so many rows and columns away, int64 of any sizes; -1 outside the map.
at::Tensor pixel_at(const at::Tensor& rows, const at::Tensor& columns) {
  const at::Tensor pixels = at::arange(kPixels);
  const at::Tensor row = row_of(pixels) + rows, column = column_of(pixels) + columns;
  const at::Tensor inside = row.ge(0) & row.lt(kSide) & column.ge(0) & column.lt(kSide);
  return (row * kSide + column).masked_fill(inside.logical_not(), -1);
}

// Each pixel asks for that two rows down and one column to the left.
PixelTask fixed_offset() {
  return {.alphabets = {kSigns}, .draw = [](int64_t batch) {
            const at::Tensor asked = pixel_at(at::full({}, 2), at::full({}, -1));
            return Pixels{{draw_signs({batch, kPixels})}, asked.expand({batch, kPixels})};
          }};
}

// Each pixel has an arrow, up, down, left or right, and asks for the second pixel that way.
PixelTask arrows() {
  return {.alphabets = {kSigns, 4}, .draw = [](int64_t batch) {
            const at::Tensor arrow = at::randint(4, {batch, kPixels}, at::kLong);
            const at::Tensor way = arrow.remainder(2) * 4 - 2;  // -2 or 2
            const at::Tensor asked = pixel_at(way * arrow.lt(2), way * arrow.ge(2));
            return Pixels{{draw_signs({batch, kPixels}), arrow}, asked};
          }};
}

std::shared_ptr<Learner> pixel_learner(PixelTask task, int64_t radius,
                                       const nn::RelativePositions2d& positions) {
  return std::make_shared<PixelLearner>(std::move(task), non_local(radius, positions));
}

nn::RelativePositions2d bias_of_offsets() {
  return nn::RelativePositions2d(nn::RelativePositions2dOptions{.rows = kSide, .columns = kSide});
}

nn::RelativePositions2d vectors_of_offsets() {
  return nn::RelativePositions2d(nn::RelativePositions2dOptions{
      .rows = kSide, .columns = kSide, .bias = false, .head_size = kWidth / 2});
}

Lesson pixel_lesson(std::string name, std::string page, std::string task, int64_t steps,
                    std::function<std::shared_ptr<Learner>()> make) {
  return {.name = std::move(name),
          .mechanism = page == "non_local_attention"
                           ? "self-attention on feature maps (non-local), Wang 2018"
                           : "self-attention on feature maps with 2-D relative positions, "
                             "Bello 2019, Liu 2021",
          .page = page,
          .task = std::move(task),
          .make = std::move(make),
          .steps = steps,
          .batch = 16,
          .learning_rate = 1e-2};
}

Lesson cannot(Lesson lesson, std::string why, double most_accuracy = 0.5) {
  lesson.steps /= 2;
  lesson.cannot = std::move(why);
  lesson.most_accuracy = most_accuracy;
  return lesson;
}

constexpr char kFarTask[] =
    "Each of 36 pixels asks for a word that stands at least three rows or columns away.";
constexpr char kOffsetTask[] =
    "Each of 36 pixels asks for the value two rows below and one column to the left.";
constexpr char kArrowTask[] =
    "Each of 36 pixels has an arrow and asks for the value two pixels that way.";

}  // namespace

std::vector<Lesson> pixel_lessons() {
  const nn::RelativePositions2d none(nullptr);
  return {
      pixel_lesson("non_local", "non_local_attention", kFarTask, 700,
                   [=] { return pixel_learner(far_words(), /*radius=*/-1, none); }),
      cannot(pixel_lesson("non_local_near", "non_local_attention", kFarTask, 700,
                          [=] { return pixel_learner(far_words(), /*radius=*/2, none); }),
             "the answer stands outside the 5 x 5 pixels that are seen, as a convolution's would"),
      pixel_lesson("positions_2d", "relative_positions_2d", kOffsetTask, 600,
                   [] { return pixel_learner(fixed_offset(), -1, bias_of_offsets()); }),
      cannot(pixel_lesson("positions_2d_none", "relative_positions_2d", kOffsetTask, 600,
                          [=] { return pixel_learner(fixed_offset(), -1, none); }),
             "without positions every order of the pixels looks the same"),
      pixel_lesson("positions_2d_vectors", "relative_positions_2d", kArrowTask, 800,
                   [] { return pixel_learner(arrows(), -1, vectors_of_offsets()); }),
      cannot(pixel_lesson("positions_2d_arrows", "relative_positions_2d", kArrowTask, 800,
                          [] { return pixel_learner(arrows(), -1, bias_of_offsets()); }),
             "a bias of offsets is the same for every arrow: it finds the four places, not which "
             "of them",
             /*most_accuracy=*/0.65),
  };
}

}  // namespace heed::learn
