// Lessons of kernel regression: what is near on a line, by a score that falls with the distance.
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <torch/nn/modules/linear.h>

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/kernel_regression.h"

namespace heed::learn {
namespace {

// Signs at points of a line; a query is a point and asks for the sign nearest to it. Points are the
// scores' own: nothing is embedded but what stands there.
class NearestLearner : public Learner {
 public:
  template <class Mechanism>
  explicit NearestLearner(Mechanism mechanism)
      : attend_(ask(mechanism)),
        signs_(register_parameter("signs", at::randn({kSigns, kWidth}))),
        reading_(register_module("reading", torch::nn::Linear(kWidth, kSigns))) {
    register_module("mechanism", mechanism.ptr());
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Drawn drawn = draw(batch);
    const nn::AttentionOutput seen = look(drawn, weights_for(purpose));
    return {.logits = reading_(seen.output).flatten(0, 1),
            .targets = drawn.signs.gather(1, drawn.nearest).flatten(),
            .weights = seen.weights.defined() ? seen.weights.flatten(0, 1) : at::Tensor(),
            .planted = drawn.planted.flatten(0, 1)};
  }

  Alignment example() override {
    const Drawn drawn = draw(1);
    return shown(point_names(drawn.keys), point_names(drawn.query),
                 look(drawn, nn::Weights::kReturn).weights[0], drawn.planted[0]);
  }

 private:
  static constexpr int64_t kPoints = 12, kQueries = 8;

  struct Drawn {
    at::Tensor query, keys;  // [B,T,1], [B,S,1]
    at::Tensor signs;        // [B,S] int64
    at::Tensor nearest;      // [B,T] int64
    at::Tensor planted;      // [B,T,S]
  };

  // In order, which no score sees, so that heat maps show the bumps around the diagonal.
  static at::Tensor random_points(int64_t batch, int64_t count) {
    return std::get<0>((2 * at::rand({batch, count}) - 1).sort(1));
  }

  static Drawn draw(int64_t batch) {
    const at::Tensor query = random_points(batch, kQueries), keys = random_points(batch, kPoints);
    const at::Tensor nearest = (query.unsqueeze(2) - keys.unsqueeze(1)).abs().argmin(2);  // [B,T]
    return {.query = query.unsqueeze(2),
            .keys = keys.unsqueeze(2),
            .signs = draw_signs({batch, kPoints}),
            .nearest = nearest,
            .planted = nearest.unsqueeze(2).eq(at::arange(kPoints))};
  }

  nn::AttentionOutput look(const Drawn& drawn, nn::Weights weights) const {
    return attend_(drawn.query, drawn.keys, at::embedding(signs_, drawn.signs), {}, weights);
  }

  static std::vector<std::string> point_names(const at::Tensor& points) {
    return labels(points.size(1), [&](int64_t i) {
      char text[16];
      std::snprintf(text, sizeof text, "%.2f", points[0][i].item<double>());
      return std::string(text);
    });
  }

  Attend attend_;
  at::Tensor signs_;  // [kSigns,E]
  torch::nn::Linear reading_;
};
const char* const kNearest =
    "Signs stand at points of a line; a query is another point and asks for the sign that is "
    "nearest.";

}  // namespace

std::vector<Lesson> kernel_lessons() {
  return {
      {.name = "kernel_regression",
       .mechanism = "kernel regression, Nadaraya 1964, Watson 1964",
       .page = "kernel_regression",
       .task = kNearest,
       .make = [] { return std::make_shared<NearestLearner>(nn::KernelRegression()); },
       .learning_rate = 2e-2},
      {.name = "dot_nearest",
       .mechanism = "dot-product attention, Luong 2015",
       .page = "kernel_regression",
       .task = kNearest,
       .make = [] { return std::make_shared<NearestLearner>(nn::DotAttention()); },
       .cannot = "a product grows with the key: the outermost point gets the largest score"},
  };
}

}  // namespace heed::learn
