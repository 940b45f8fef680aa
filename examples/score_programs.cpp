// Ten mechanisms as score programs, printed and run, without torch: the C++ blocks of
// docs/score-programs.md.
#include <heed/core/attention.h>
#include <heed/core/program/bound.h>
#include <heed/core/program/expression.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

using namespace heed::program;

namespace {

constexpr int64_t B = 2, H = 4, T = 96, D = 16;

ScoreProgram causal() { return ScoreProgram::masked(s() <= t()); }

ScoreProgram window(int64_t width) { return ScoreProgram::masked(abs(t() - s()) <= width); }

ScoreProgram prefix_lm(const Table& prefix) {  // int64 [B]
  return ScoreProgram::masked(s() <= t() || s() < prefix[b()]);
}

ScoreProgram documents(const Table& document) {  // int64 [B,T]
  const Expression of_query = document.at({b(), t()}), of_key = document.at({b(), s()});
  return ScoreProgram::masked(of_query == of_key && s() <= t());
}

ScoreProgram alibi(const Table& slope) {  // float [H]
  return ScoreProgram(score() - slope[h()] * (t() - s()), s() <= t());
}

ScoreProgram t5(const Table& bias) {  // float [32,H]
  const Expression distance = max(t() - s(), 0);
  const Expression far = 16 + to_int(log(distance / 16) * (16 / std::log(8.0)));
  const Expression bucket = where(distance < 16, distance, min(far, 31));
  return ScoreProgram(score() + bias.at({bucket, h()}), s() <= t());
}

ScoreProgram soft_cap(double cap) { return ScoreProgram(cap * tanh(score() / cap)); }

// float [B,H,T,M + T] and [B,H,M + T], M keys of memory first.
ScoreProgram transformer_xl(const Table& position, const Table& content, int64_t M) {
  const Expression distance = t() + M - s();
  return ScoreProgram(
      score() + position.at({b(), h(), t(), distance}) + content.at({b(), h(), s()}),
      distance >= 0);
}

ScoreProgram natten(int64_t rows, int64_t columns, int64_t radius) {
  const auto centre = [&](const Expression& x, int64_t size) {
    return min(max(x, radius), size - 1 - radius);
  };
  const Expression down = centre(floor_div(t(), columns), rows) - floor_div(s(), columns);
  const Expression right = centre(t() % columns, columns) - s() % columns;
  return ScoreProgram::masked(abs(down) <= radius && abs(right) <= radius);
}

ScoreProgram streaming(int64_t first, int64_t width) {
  return ScoreProgram::masked(s() <= t() && (s() < first || t() - s() < width));
}

std::vector<float> random_floats(int64_t n) {
  static std::mt19937 generator(0);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(generator);
  return x;
}

// The program on S keys; sinks [H], or null.
template <class Element>
std::vector<Element> attend(const std::vector<Element>& qkv, int64_t S,
                            const ScoreProgram& score_program, const Element* sinks) {
  const Element* q = qkv.data();
  const Element* k = q + B * H * T * D;
  const Element* v = k + B * H * S * D;
  std::vector<Element> out(B * H * T * D), lse(B * H * T);

  const BoundProgram program(score_program.program, score_program.tables,
                             {.B = B, .H = H, .T = T, .S = S});
  heed::AttentionInputs<Element> inputs;
  inputs.shape = {.B = B, .H = H, .Hkv = H, .T = T, .S = S, .D = D, .Dv = D};
  inputs.scale = 1 / std::sqrt(Element{D});
  inputs.q = heed::dense_view(q, H, T, D);
  inputs.k = heed::dense_view(k, H, S, D);
  inputs.v = heed::dense_view(v, H, S, D);
  inputs.program = &program;
  inputs.sinks = sinks;  // [H], or null
  heed::AttentionOutputs<Element> outputs;
  outputs.out = heed::dense_view(out.data(), H, T, D);
  outputs.lse = lse.data();
  heed::attention_forward(inputs, outputs, heed::default_executor());
  return out;
}

// Prints the program and compares the kernels, in float, with the scalar reference, in double.
bool show(const ScoreProgram& program, int64_t S = T, const std::vector<float>& sinks = {}) {
  std::printf("%s\n\n", program.program->str().c_str());
  const auto qkv = random_floats(B * H * (T + 2 * S) * D);
  const std::vector<double> wide_sinks(sinks.begin(), sinks.end());
  const auto out = attend(qkv, S, program, sinks.empty() ? nullptr : sinks.data());
  const auto expected = attend(std::vector<double>(qkv.begin(), qkv.end()), S, program,
                               sinks.empty() ? nullptr : wide_sinks.data());
  double error = 0;
  for (size_t i = 0; i < out.size(); ++i) error = std::max(error, std::abs(out[i] - expected[i]));
  if (error < 1e-5) return true;
  std::fprintf(stderr, "off by %g\n", error);
  return false;
}

}  // namespace

int main() {
  constexpr int64_t M = 32;
  const std::vector<int64_t> prefix = {20, 50};
  std::vector<int64_t> document(B * T);
  for (int64_t i = 0; i < B * T; ++i) document[i] = i % T / 40;
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  const auto bias = random_floats(32 * H), sinks = random_floats(H);
  const auto position = random_floats(B * H * T * (M + T));
  const auto content = random_floats(B * H * (M + T));

  const ScoreProgram capped = soft_cap(50);
  std::printf("%s\n\n", text_of(capped.program->graph(), capped.program->d_dot()).c_str());

  bool good = show(causal());
  good &= show(window(16));
  good &= show(prefix_lm(Table(prefix.data(), {B})));
  good &= show(documents(Table(document.data(), {B, T})));
  good &= show(alibi(Table(slopes.data(), {H})));
  good &= show(t5(Table(bias.data(), {32, H})));
  good &= show(capped);
  good &= show(transformer_xl(Table(position.data(), {B, H, T, M + T}),
                              Table(content.data(), {B, H, M + T}), M),
               M + T);
  good &= show(natten(8, 12, 1));
  good &= show(streaming(4, 16), T, sinks);
  return good ? 0 : 1;
}
