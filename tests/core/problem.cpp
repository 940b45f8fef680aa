#include "tests/core/problem.h"

#include <cmath>

namespace heed::testing {

std::string name_of(const Case& c) {
  const Shape& s = c.shape;
  std::string name = c.score == Score::kDot ? "dot" : "additive";
  if (c.causal == Causal::kTopLeft) name += " top_left";
  if (c.causal == Causal::kBottomRight) name += " bottom_right";
  if (c.lengths == Lengths::kMixed) name += " lengths";
  if (c.lengths == Lengths::kFull) name += " full_lengths";
  if (c.layout == Layout::kTokenMajor) name += " token_major";
  for (const auto& [letter, size] : {std::pair("B", s.B),
                                     {"H", s.H},
                                     {"Hkv", s.Hkv},
                                     {"T", s.T},
                                     {"S", s.S},
                                     {"D", s.D},
                                     {"Dv", s.Dv}}) {
    name += std::string(" ") + letter + std::to_string(size);
  }
  return name;
}

template <class Real>
Problem<Real>::Problem(const Case& problem_case, unsigned seed)
    : c(problem_case),
      q(c.shape.B, c.shape.H, c.shape.T, c.shape.D, c.layout),
      k(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.D, c.layout),
      v(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.Dv, c.layout),
      weight(1, 1, c.shape.H, c.shape.D),
      d_out(c.shape.B, c.shape.H, c.shape.T, c.shape.Dv, c.layout),
      d_lse(1, 1, 1, c.shape.B * c.shape.H * c.shape.T),
      out(c.shape.B, c.shape.H, c.shape.T, c.shape.Dv, c.layout),
      lse(1, 1, 1, c.shape.B * c.shape.H * c.shape.T),
      weights(c.shape.B, c.shape.H, c.shape.T, c.shape.S),
      d_q(c.shape.B, c.shape.H, c.shape.T, c.shape.D, c.layout),
      d_k(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.D, c.layout),
      d_v(c.shape.B, c.shape.Hkv, c.shape.S, c.shape.Dv, c.layout),
      d_weight(1, 1, c.shape.H, c.shape.D) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (const Tensor<Real>* tensor : {&q, &k, &v, &weight, &d_out, &d_lse}) {
    tensor->each([&](Real& x) { x = static_cast<Real>(normal(random)); });
  }
  // What is left unwritten shows.
  for (const auto& [name, tensor] : results()) tensor->fill(std::nan(""));
  if (c.lengths != Lengths::kNone) {
    const int64_t B = c.shape.B, S = c.shape.S;
    for (int64_t b = 0; b < B; ++b) {
      lengths.push_back(c.lengths == Lengths::kFull || B < 2 ? S : S * b / (B - 1));
    }
  }
}

template <class Real>
AttentionInputs<Real> Problem<Real>::inputs() const {
  // Scores of order 1, for additive ones too: the error of a softmax grows with its scores.
  const double usual = c.shape.D == 0 ? 1 : 1 / std::sqrt(static_cast<double>(c.shape.D));
  const double scale = c.scale != 0 ? c.scale : usual;
  return {
      .shape = c.shape,
      .score = c.score,
      .causal = c.causal,
      .scale = static_cast<Real>(scale),
      .q = q.const_view(),
      .k = k.const_view(),
      .v = v.const_view(),
      .weight = c.score == Score::kAdditive ? weight.data() : nullptr,
      .kv_lengths = lengths.empty() ? nullptr : lengths.data(),
  };
}

template <class Real>
void Problem<Real>::forward(Executor& executor, bool with_weights) {
  attention_forward(inputs(),
                    {.out = out.view(),
                     .lse = lse.data(),
                     .weights = with_weights ? weights.view() : View<Real>{}},
                    executor);
}

template <class Real>
void Problem<Real>::backward(Executor& executor) {
  attention_backward(inputs(),
                     {.out = out.const_view(),
                      .lse = lse.data(),
                      .d_out = d_out.const_view(),
                      .d_lse = d_lse.data(),
                      .d_q = d_q.view(),
                      .d_k = d_k.view(),
                      .d_v = d_v.view(),
                      .d_weight = c.score == Score::kAdditive ? d_weight.data() : nullptr},
                     executor);
}

template <class Real>
std::vector<std::pair<const char*, const Tensor<Real>*>> Problem<Real>::results() const {
  std::vector<std::pair<const char*, const Tensor<Real>*>> all = {
      {"out", &out}, {"lse", &lse}, {"weights", &weights},
      {"d_q", &d_q}, {"d_k", &d_k}, {"d_v", &d_v}};
  if (c.score == Score::kAdditive) all.push_back({"d_weight", &d_weight});
  return all;
}

template struct Problem<float>;
template struct Problem<double>;

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    constexpr Causal kCorners[] = {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight};
    constexpr Score kScores[] = {Score::kDot, Score::kAdditive};
    auto add = [&](Score score, Shape shape, Causal causal = Causal::kNone,
                   Lengths lengths = Lengths::kNone, Layout layout = Layout::kDense) {
      all.push_back({shape, score, causal, lengths, layout, 0});
    };
    // T and S on both sides of a vector, of the short-row limit and of a tile. Additive scores know
    // no tile, only blocks of rows and of keys.
    constexpr int64_t kSizes[] = {1, 7, 8, 9, 15, 16, 17, 47, 48, 49, 129};
    int corner = 0;
    for (int64_t T : kSizes) {
      for (int64_t S : kSizes) {
        const Shape shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = S, .D = 16, .Dv = 16};
        const Causal causal = kCorners[corner++ % 3];
        add(Score::kDot, shape, causal);
        if (T <= 17 && S != 47) add(Score::kAdditive, shape, causal);
      }
    }
    // Head widths on both sides of a vector, equal and not, for a short and a tiled T.
    constexpr int64_t kWidths[] = {1, 3, 16, 64, 65, 128};
    for (int64_t D : kWidths) {
      for (int64_t Dv : kWidths) {
        for (int64_t T : {2, 20}) {
          add(Score::kDot, {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = 19, .D = D, .Dv = Dv});
        }
        add(Score::kAdditive, {.B = 1, .H = 1, .Hkv = 1, .T = 2, .S = 19, .D = D, .Dv = Dv});
      }
    }
    // Groups, lengths, layouts, corners together.
    for (Score score : kScores) {
      for (Causal causal : kCorners) {
        for (Lengths lengths : {Lengths::kNone, Lengths::kMixed}) {
          for (Layout layout : {Layout::kDense, Layout::kTokenMajor}) {
            for (int64_t T : {1, 5, 50}) {
              add(score, {.B = 3, .H = 4, .Hkv = 2, .T = T, .S = 70, .D = 24, .Dv = 17}, causal,
                  lengths, layout);
            }
          }
        }
      }
    }
    // Several backward chunks, and sums long enough to round badly.
    for (Causal causal : kCorners) {
      add(Score::kDot, {.B = 1, .H = 2, .Hkv = 1, .T = 3, .S = 700, .D = 32, .Dv = 40}, causal);
      add(Score::kDot, {.B = 1, .H = 2, .Hkv = 1, .T = 60, .S = 900, .D = 130, .Dv = 128}, causal);
      add(Score::kAdditive, {.B = 1, .H = 2, .Hkv = 1, .T = 12, .S = 300, .D = 20, .Dv = 40},
          causal);
    }
    for (Score score : kScores) {
      add(score, {.B = 2, .H = 1, .Hkv = 1, .T = 1, .S = 23, .D = 512, .Dv = 512}, Causal::kNone,
          Lengths::kMixed);
    }
    add(Score::kDot, {.B = 1, .H = 1, .Hkv = 1, .T = 50, .S = 50, .D = 512, .Dv = 300});
    // Nothing of something.
    for (Score score : kScores) {
      for (int64_t T : {0, 3, 20}) {
        add(score, {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 0, .D = 8, .Dv = 8});
        add(score, {.B = 0, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 8, .Dv = 8});
        add(score, {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 0, .Dv = 8});
        add(score, {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 8, .Dv = 0}, Causal::kTopLeft);
      }
    }
    // A scale that turns the order of scores around.
    all.push_back({{.B = 1, .H = 1, .Hkv = 1, .T = 20, .S = 20, .D = 8, .Dv = 8},
                   Score::kDot,
                   Causal::kTopLeft,
                   Lengths::kNone,
                   Layout::kDense,
                   -0.7});
    return all;
  }();
  return cases;
}

}  // namespace heed::testing
