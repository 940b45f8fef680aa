// Attention with ALiBi (Press et al. 2022) on plain arrays, forward and backward, without torch:
// tensors are token-major, as a projection leaves them, and the slopes are learnt.
#include <heed/core/attention.h>
#include <heed/core/program/bound.h>
#include <heed/core/program/expression.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

using namespace heed::program;  // score(), b(), h(), t(), s(), Table, ScoreProgram

namespace {

constexpr heed::Shape kShape = {.B = 2, .H = 4, .Hkv = 2, .T = 100, .S = 100, .D = 32, .Dv = 32};

// [B,T,H,D] in memory, seen as [B,H,T,D]: nothing is copied or transposed.
template <class Element>
heed::View<Element> token_major(Element* data, int64_t T, int64_t H, int64_t D) {
  return {.data = data, .stride_b = T * H * D, .stride_h = D, .stride_t = H * D};
}

std::vector<float> random_floats(int64_t n) {
  static std::mt19937 generator(0);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(generator);
  return x;
}

struct Model {
  std::vector<float> q = random_floats(kShape.B * kShape.T * kShape.H * kShape.D);
  std::vector<float> k = random_floats(kShape.B * kShape.S * kShape.Hkv * kShape.D);
  std::vector<float> v = random_floats(kShape.B * kShape.S * kShape.Hkv * kShape.Dv);
  std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};  // [H]

  // score - slope[h] (t - s) where s <= t. Tables are read where they lie, so this is made once.
  ScoreProgram alibi() const {
    const Table slope(slopes.data(), {kShape.H});
    return ScoreProgram(score() - slope[h()] * (t() - s()), s() <= t());
  }

  heed::AttentionInputs<float> inputs(const BoundProgram& program) const {
    const auto& [B, H, Hkv, T, S, D, Dv] = kShape;
    heed::AttentionInputs<float> inputs;
    inputs.shape = kShape;
    inputs.scale = 1 / std::sqrt(static_cast<float>(D));
    inputs.q = token_major(q.data(), T, H, D);
    inputs.k = token_major(k.data(), S, Hkv, D);
    inputs.v = token_major(v.data(), S, Hkv, Dv);
    inputs.program = &program;
    return inputs;
  }
};

// out [B,T,H,Dv] and lse [B,H,T]; loss = sum out^2 / 2, so that out is its own gradient.
struct Forward {
  std::vector<float> out = std::vector<float>(kShape.B * kShape.T * kShape.H * kShape.Dv);
  std::vector<float> lse = std::vector<float>(kShape.B * kShape.H * kShape.T);

  double run(const Model& model, const BoundProgram& program) {
    heed::AttentionOutputs<float> outputs;
    outputs.out = token_major(out.data(), kShape.T, kShape.H, kShape.Dv);
    outputs.lse = lse.data();
    heed::attention_forward(model.inputs(program), outputs, heed::default_executor());
    double loss = 0;
    for (const float x : out) loss += x * x / 2.0;
    return loss;
  }
};

struct Gradients {
  std::vector<float> q, k, v, slopes;
};

Gradients backward(const Model& model, const BoundProgram& program, const Forward& forward) {
  const auto& [B, H, Hkv, T, S, D, Dv] = kShape;
  Gradients d = {std::vector<float>(model.q.size()), std::vector<float>(model.k.size()),
                 std::vector<float>(model.v.size()), std::vector<float>(model.slopes.size())};
  float* const d_tables[] = {d.slopes.data()};  // one a table of the program
  heed::AttentionGradients<float> gradients;
  gradients.out = token_major(forward.out.data(), T, H, Dv);
  gradients.lse = forward.lse.data();
  gradients.d_out = gradients.out;
  gradients.d_q = token_major(d.q.data(), T, H, D);
  gradients.d_k = token_major(d.k.data(), S, Hkv, D);
  gradients.d_v = token_major(d.v.data(), S, Hkv, Dv);
  gradients.d_tables = d_tables;
  heed::attention_backward(model.inputs(program), gradients, heed::default_executor());
  return d;
}

// d loss / d x by central differences.
double difference(Model& model, const BoundProgram& program, float& x) {
  constexpr float kStep = 1e-2f;
  Forward forward;
  const float at = x;
  x = at + kStep;
  const double above = forward.run(model, program);
  x = at - kStep;
  const double below = forward.run(model, program);
  x = at;
  return (above - below) / (2 * kStep);
}

bool agree(const char* name, double gradient, double difference) {
  std::printf("%-17s %8.4f  by differences %8.4f\n", name, gradient, difference);
  return std::abs(gradient - difference) < 1e-2 * std::max(1.0, std::abs(difference));
}

}  // namespace

int main() {
  Model model;
  const ScoreProgram alibi = model.alibi();
  std::printf("%s\n\n", alibi.program->str().c_str());
  const BoundProgram program(alibi.program, alibi.tables,
                             {.B = kShape.B, .H = kShape.H, .T = kShape.T, .S = kShape.S});

  Forward forward;
  std::printf("loss %.3f\n", forward.run(model, program));
  // The first query sees the first key alone, so the first head's row is that key's value.
  bool good = std::equal(model.v.begin(), model.v.begin() + kShape.Dv, forward.out.begin());
  if (!good) std::printf("the first row is not the first value\n");

  const Gradients d = backward(model, program, forward);
  // One number of each at token 50.
  const int64_t q = 50 * kShape.H * kShape.D, k = 50 * kShape.Hkv * kShape.D;
  good &= agree("d loss / d slope", d.slopes[1], difference(model, program, model.slopes[1]));
  good &= agree("d loss / d q", d.q[q], difference(model, program, model.q[q]));
  good &= agree("d loss / d k", d.k[k], difference(model, program, model.k[k]));
  good &= agree("d loss / d v", d.v[k], difference(model, program, model.v[k]));
  return good ? 0 : 1;
}
