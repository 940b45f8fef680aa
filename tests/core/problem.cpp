#include "tests/core/problem.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace heed::testing {

std::string name_of(const Case& c) {
  const Shape& s = c.shape;
  std::string name = c.score == Score::kDot        ? "dot"
                     : c.score == Score::kAdditive ? "additive"
                                                   : "no_product";
  const auto add = [&](bool is, const std::string& word) {
    if (is) name += " " + word;
  };
  const auto number = [](const char* word, auto x) { return word + std::to_string(x); };
  add(c.element == Element::kBFloat16, "bf16");
  add(c.element == Element::kFloat16, "fp16");
  add(c.causal == Causal::kTopLeft, "top_left");
  add(c.causal == Causal::kBottomRight, "bottom_right");
  add(c.window.left >= 0, number("left", c.window.left));
  add(c.window.right >= 0, number("right", c.window.right));
  add(c.lengths == KeyLengths::kMixed, "lengths");
  add(c.lengths == KeyLengths::kFull, "full_lengths");
  add(c.packed, "packed");
  add(c.mechanism != Mechanism::kNone, name_of(c.mechanism));
  add(c.sinks, "sinks");
  add(c.top_k > 0, number("top_k", c.top_k));
  add(c.dropout > 0, number("dropout", c.dropout));
  add(c.exact, "exact");
  add(c.scale != 0, number("scale", c.scale));
  constexpr const char* kLayouts[] = {"dense", "token_major", "ends_at_page", "begins_at_page",
                                      "random_layout"};
  add(c.layout != Layout::kDense, kLayouts[static_cast<int>(c.layout)]);
  for (const auto& [letter, size] : {std::pair("B", s.B),
                                     {"H", s.H},
                                     {"Hkv", s.Hkv},
                                     {"T", s.T},
                                     {"S", s.S},
                                     {"D", s.D},
                                     {"Dv", s.Dv}}) {
    add(true, number(letter, size));
  }
  add(c.seed != 1, number("seed", c.seed));
  return name;
}

namespace {

double rounded_to(Element element, double x) {
  if (element == Element::kBFloat16) return ref::to_double(ref::from_double<BFloat16>(x));
  if (element == Element::kFloat16) return ref::to_double(ref::from_double<Float16>(x));
  return static_cast<float>(x);
}

double scale_of(const Case& c) {
  if (c.scale != 0) return c.scale;
  // Scores of order 1, for additive ones too: the error of a softmax grows with its scores.
  const double scale = c.shape.D == 0 ? 1 : 1 / std::sqrt(static_cast<double>(c.shape.D));
  return c.exact ? std::exp2(std::round(std::log2(scale))) : scale;
}

// Lengths of packed sequences: the longest first, then mixed ones.
std::vector<int64_t> offsets(int64_t B, int64_t longest, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int64_t> all = {0};
  for (int64_t b = 0; b < B; ++b) {
    const int64_t length = b == 0 ? longest : static_cast<int64_t>(random() % (longest + 1));
    all.push_back(all.back() + (b == 2 ? 0 : length));
  }
  return all;
}

}  // namespace

template <class E>
Problem<E>::Problem(const Case& problem_case) : c(problem_case) {
  const auto& [B, H, Hkv, T, S, D, Dv] = c.shape;
  if (c.packed) {
    q_offsets = offsets(B, T, c.seed);
    k_offsets = offsets(B, S, c.seed + 1);
  } else if (c.lengths != KeyLengths::kNone) {
    for (int64_t b = 0; b < B; ++b) {
      lengths.push_back(c.lengths == KeyLengths::kFull || B < 2 ? S : S * b / (B - 1));
    }
  }
  const int64_t elements = c.packed ? 1 : B;
  const int64_t queries = c.packed ? q_offsets.back() : T, keys = c.packed ? k_offsets.back() : S;
  const int64_t lse_rows = elements * H * queries;
  unsigned seed = c.seed * 100;
  const auto make = [&](auto& tensor, std::array<int64_t, 4> sizes, bool input = false) {
    using X = std::remove_reference_t<decltype(tensor)>;
    tensor = X(sizes, c.layout, input ? X::Role::kInput : X::Role::kOutput, ++seed);
    if (c.packed) tensor.set_stride_b(0);
  };
  // Arrays that the interface wants dense; they keep to pages where the layout does.
  const auto make_dense = [&](auto& tensor, std::array<int64_t, 4> sizes) {
    const bool pages = c.layout == Layout::kEndsAtPage || c.layout == Layout::kBeginsAtPage;
    tensor = std::remove_reference_t<decltype(tensor)>(sizes, pages ? c.layout : Layout::kDense);
  };
  make(q, {elements, H, queries, D}, true);
  make(k, {elements, Hkv, keys, D}, true);
  make(v, {elements, Hkv, keys, Dv}, true);
  make(d_out, {elements, H, queries, Dv}, true);
  make(out, {elements, H, queries, Dv});
  make(d_q, {elements, H, queries, D});
  make(d_k, {elements, Hkv, keys, D});
  make(d_v, {elements, Hkv, keys, Dv});
  make(weights, {elements, H, queries, S});
  make_dense(weight, {1, 1, H, D});
  make_dense(d_weight, {1, 1, H, D});
  make_dense(sinks, {1, 1, 1, H});
  make_dense(d_sinks, {1, 1, 1, H});
  for (Tensor<Real>* tensor : {&lse, &d_lse, &entropy, &max})
    make_dense(*tensor, {1, 1, 1, lse_rows});
  make_dense(top_weights, {1, 1, lse_rows, kTop});
  make_dense(top_keys, {1, 1, lse_rows, kTop});

  std::mt19937 random(c.seed);
  std::normal_distribution<float> normal;
  const auto draw = [&](const auto& tensor) {
    using X = std::remove_reference_t<decltype(*tensor.data())>;
    tensor.each([&](X& x) {
      double y = normal(random);
      if (c.exact) y = std::round(4 * std::clamp(y, -2.0, 2.0)) / 4;
      x = from_double<X>(rounded_to(c.element, y));
    });
  };
  for (const Tensor<E>* tensor : {&q, &k, &v, &weight, &d_out, &sinks}) draw(*tensor);
  draw(d_lse);

  if (has_program()) {
    constexpr bool kDouble = std::is_same_v<E, double>;
    constexpr Element kFloats[] = {Element::kFloat32, Element::kBFloat16, Element::kFloat16,
                                   Element::kFloat64};
    tables_ = std::make_unique<Tables>(Tables::Options{.seed = c.seed,
                                                       .layout = c.layout,
                                                       .floats = kFloats[c.seed % 4],
                                                       .as_double = kDouble,
                                                       .exact = c.exact});
    score_program_ = std::make_unique<program::ScoreProgram>(
        program_of(c.mechanism, c.shape, *tables_, c.exact, c.seed));
    for (const program::TableView& table : score_program_->tables) {
      const bool floats = table.element != Element::kInt32 && table.element != Element::kInt64 &&
                          table.element != Element::kBool;
      int64_t size = 1;
      for (int64_t n : table.sizes) size *= n;
      make_dense(d_tables.emplace_back(), {floats ? 1 : 0, 1, 1, size});
    }
    bind();
  }

  // What is left unwritten shows.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Tensor<E>* tensor : {&out, &d_q, &d_k, &d_v}) tensor->fill(nan);
  for (const Tensor<Real>* tensor :
       {&lse, &weights, &entropy, &max, &top_weights, &d_weight, &d_sinks}) {
    tensor->fill(nan);
  }
  for (const Tensor<Real>& tensor : d_tables) tensor.fill(nan);
  top_keys.fill(-7);
}

template <class E>
void Problem<E>::bind() {
  program::Sizes sizes = {.B = c.shape.B,
                          .H = c.shape.H,
                          .T = c.shape.T,
                          .S = c.shape.S,
                          .left = kUnbounded,
                          .right = -kUnbounded};
  const AttentionInputs<E> unbound = inputs();
  for (int64_t b = 0; b < c.shape.B; ++b) {
    const Band band = band_of(unbound, b);
    sizes.left = std::min(sizes.left, band.left);
    sizes.right = std::max(sizes.right, band.right);
  }
  bound_ = std::make_unique<program::BoundProgram>(score_program_->program, score_program_->tables,
                                                   sizes);
}

template <class E>
AttentionInputs<E> Problem<E>::inputs() const {
  return {
      .shape = c.shape,
      .score = c.score,
      .causal = c.causal,
      .window = c.window,
      .scale = static_cast<Real>(scale_of(c)),
      .q = c.score == Score::kNone ? View<const E>{} : q.const_view(),
      .k = c.score == Score::kNone ? View<const E>{} : k.const_view(),
      .v = v.const_view(),
      .weight = c.score == Score::kAdditive ? weight.data() : nullptr,
      .kv_lengths = lengths.empty() ? nullptr : lengths.data(),
      .packing = {.q_offsets = c.packed ? q_offsets.data() : nullptr,
                  .k_offsets = c.packed ? k_offsets.data() : nullptr},
      .program = bound_.get(),
      .sinks = c.sinks ? sinks.data() : nullptr,
      .top_k = c.top_k,
      .dropout = {.p = c.dropout, .seed = c.seed},
  };
}

template <class E>
void Problem<E>::forward(Executor& executor, Ask ask) {
  AttentionOutputs<E> outputs = {.out = out.view(), .lse = lse.data()};
  if (ask == Ask::kEverything) {
    outputs.weights = weights.view();
    outputs.statistics = {.entropy = entropy.data(),
                          .max = max.data(),
                          .top = kTop,
                          .top_keys = top_keys.data(),
                          .top_weights = top_weights.data()};
  }
  attention_forward(inputs(), outputs, executor);
}

template <class E>
void Problem<E>::backward(Executor& executor) {
  std::vector<Real*> tables;
  for (const Tensor<Real>& table : d_tables) {
    tables.push_back(table.size(0) == 0 ? nullptr : table.data());
  }
  attention_backward(inputs(),
                     {.out = out.const_view(),
                      .lse = lse.data(),
                      .d_out = d_out.const_view(),
                      .d_lse = d_lse.data(),
                      .d_q = d_q.view(),
                      .d_k = d_k.view(),
                      .d_v = d_v.view(),
                      .d_weight = c.score == Score::kAdditive ? d_weight.data() : nullptr,
                      .d_sinks = c.sinks ? d_sinks.data() : nullptr,
                      .d_tables = tables.empty() ? nullptr : tables.data()},
                     executor);
}

template <class E>
std::vector<Result> Problem<E>::results() const {
  std::vector<Result> all;
  const auto add = [&](const std::string& name, const auto& tensor) {
    all.push_back({name, tensor.values(), tensor.bits(), tensor.guards_intact()});
  };
  add("out", out);
  add("lse", lse);
  add("weights", weights);
  add("entropy", entropy);
  add("max", max);
  add("d_q", d_q);
  add("d_k", d_k);
  add("d_v", d_v);
  if (c.score == Score::kAdditive) add("d_weight", d_weight);
  if (c.sinks) add("d_sinks", d_sinks);
  for (std::size_t i = 0; i < d_tables.size(); ++i) {
    add("d_table" + std::to_string(i), d_tables[i]);
  }
  return all;
}

template <class E>
int64_t Problem<E>::row(int64_t b, int64_t h, int64_t t) const {
  if (c.packed) return h * q_offsets.back() + q_offsets[b] + t;
  return (b * c.shape.H + h) * c.shape.T + t;
}

template struct Problem<float>;
template struct Problem<BFloat16>;
template struct Problem<Float16>;
template struct Problem<double>;

namespace {

constexpr Causal kCorners[] = {Causal::kNone, Causal::kTopLeft, Causal::kBottomRight};

// T and S on both sides of a vector, of the short-row limit and of a tile: every T with a few S.
void add_sizes(std::vector<Case>& all) {
  constexpr int64_t kSizes[] = {1, 7, 8, 9, 15, 16, 17, 47, 48, 49, 63, 64, 65, 97, 129};
  constexpr int kCount = std::size(kSizes);
  int corner = 0;
  for (int i = 0; i < kCount; ++i) {
    for (int shift : {0, 1, 4, 6, 11}) {
      const int64_t T = kSizes[i], S = kSizes[(i * 4 + shift) % kCount];
      const Shape shape = {.B = 1, .H = 1, .Hkv = 1, .T = T, .S = S, .D = 16, .Dv = 16};
      const Causal causal = kCorners[corner++ % 3];
      all.push_back({.shape = shape, .causal = causal});
      // Additive scores know no tile, only blocks of rows and of keys.
      if (T <= 17) all.push_back({.shape = shape, .score = Score::kAdditive, .causal = causal});
    }
  }
}

// Head widths on both sides of a vector, equal and not, for a short and a tiled T.
void add_widths(std::vector<Case>& all) {
  constexpr int64_t kWidths[] = {1, 3, 16, 31, 64, 65, 128};
  for (int64_t D : kWidths) {
    for (int64_t Dv : kWidths) {
      if (D != Dv && D * Dv % 2 == 0 && D > 3 && Dv > 3) continue;
      Shape shape = {.B = 1, .H = 1, .Hkv = 1, .T = 2, .S = 19, .D = D, .Dv = Dv};
      all.push_back({.shape = shape, .score = Score::kAdditive});
      all.push_back({.shape = shape});
      shape.T = 20;
      all.push_back({.shape = shape});
    }
  }
  for (Score score : {Score::kDot, Score::kAdditive}) {
    all.push_back({.shape = {.B = 2, .H = 1, .Hkv = 1, .T = 1, .S = 23, .D = 512, .Dv = 512},
                   .score = score,
                   .lengths = KeyLengths::kMixed});
  }
  all.push_back({.shape = {.B = 1, .H = 1, .Hkv = 1, .T = 50, .S = 50, .D = 512, .Dv = 300}});
}

// Groups, lengths, layouts and corners together.
void add_groups(std::vector<Case>& all) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (Causal causal : kCorners) {
      for (KeyLengths lengths : {KeyLengths::kNone, KeyLengths::kMixed}) {
        for (int64_t T : {1, 5, 50}) {
          const Layout layout = (all.size() % 2 == 0) ? Layout::kDense : Layout::kTokenMajor;
          all.push_back(
              {.shape =
                   {.B = 3, .H = 4, .Hkv = 2, .T = T, .S = T == 50 ? 37 : 70, .D = 24, .Dv = 17},
               .score = score,
               .causal = causal,
               .lengths = lengths,
               .layout = layout});
        }
      }
    }
  }
  for (int64_t group : {3, 8, 9, 16}) {  // one query of many heads on few keys, as decoding has it
    all.push_back({.shape = {.B = 2, .H = 2 * group, .Hkv = 2, .T = 1, .S = 130, .D = 32, .Dv = 32},
                   .causal = Causal::kBottomRight,
                   .lengths = KeyLengths::kMixed});
  }
}

// Several backward chunks, and sums long enough to round badly.
void add_long(std::vector<Case>& all) {
  for (Causal causal : kCorners) {
    all.push_back({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 3, .S = 700, .D = 32, .Dv = 40},
                   .causal = causal});
    all.push_back({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 12, .S = 300, .D = 20, .Dv = 40},
                   .score = Score::kAdditive,
                   .causal = causal});
  }
  all.push_back({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 60, .S = 900, .D = 130, .Dv = 128},
                 .causal = Causal::kBottomRight});
  all.push_back({.shape = {.B = 1, .H = 1, .Hkv = 1, .T = 400, .S = 400, .D = 8, .Dv = 8},
                 .causal = Causal::kTopLeft});
}

// Nothing of something, and a scale that turns the order of scores around.
void add_odd(std::vector<Case>& all) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (int64_t T : {0, 3, 20}) {
      const auto add = [&](const Shape& shape, Causal causal = Causal::kNone) {
        all.push_back({.shape = shape, .score = score, .causal = causal});
      };
      add({.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 0, .D = 8, .Dv = 8});
      add({.B = 0, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 8, .Dv = 8});
      add({.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 0, .Dv = 8});
      add({.B = 2, .H = 2, .Hkv = 1, .T = T, .S = 5, .D = 8, .Dv = 0}, Causal::kTopLeft);
    }
  }
  all.push_back({.shape = {.B = 1, .H = 1, .Hkv = 1, .T = 20, .S = 20, .D = 8, .Dv = 8},
                 .causal = Causal::kTopLeft,
                 .scale = -0.7});
}

// Every program with rows and with tiles; corners, layouts and element types of tables in turn.
void add_programs(std::vector<Case>& all) {
  unsigned turn = 0;
  for (Mechanism mechanism : kNamed) {
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{3, 70}, {50, 33}, {65, 49}}) {
      all.push_back({.shape = {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 24, .Dv = 17},
                     .causal = kCorners[turn % 3],
                     .lengths = turn % 4 == 3 ? KeyLengths::kMixed : KeyLengths::kNone,
                     .layout = turn % 5 == 2 ? Layout::kRandom : Layout::kDense,
                     .mechanism = mechanism,
                     .seed = turn + 1});
      ++turn;
    }
    all.push_back({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = 10, .S = 20, .D = 9, .Dv = 8},
                   .score = mechanism == Mechanism::kLocation ? Score::kNone : Score::kAdditive,
                   .causal = kCorners[turn % 3],
                   .mechanism = mechanism});
  }
  // Several chunks of keys, whose gradients meet in a table; and heads that share keys.
  for (Mechanism mechanism : {Mechanism::kClippedRows, Mechanism::kDistanceRows,
                              Mechanism::kPastRows, Mechanism::kRowsTwice, Mechanism::kBias}) {
    for (int64_t T : {5, 60}) {
      all.push_back({.shape = {.B = 1, .H = 2, .Hkv = 1, .T = T, .S = 450, .D = 130, .Dv = 128},
                     .mechanism = mechanism,
                     .seed = turn});
      all.push_back({.shape = {.B = 2, .H = 6, .Hkv = 2, .T = T, .S = 41, .D = 8, .Dv = 8},
                     .mechanism = mechanism,
                     .seed = ++turn});
    }
  }
  for (Mechanism mechanism : {Mechanism::kAlibi, Mechanism::kMask}) {
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{0, 5}, {5, 0}, {20, 0}}) {
      all.push_back({.shape = {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 8, .Dv = 8},
                     .mechanism = mechanism});
    }
  }
  all.push_back({.shape = {.B = 2, .H = 2, .Hkv = 2, .T = 20, .S = 300, .D = 8, .Dv = 8},
                 .score = Score::kNone,
                 .mechanism = Mechanism::kRelative});
}

void add_windows(std::vector<Case>& all) {
  constexpr Window kWindows[] = {
      {.left = 0, .right = 0}, {.left = 3}, {.right = 5}, {.left = 20, .right = 2}};
  unsigned turn = 0;
  for (const Window& window : kWindows) {
    for (Causal causal : kCorners) {
      for (const auto& [T, S] : {std::pair<int64_t, int64_t>{4, 70}, {50, 70}, {97, 47}}) {
        all.push_back({.shape = {.B = 2, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 16, .Dv = 16},
                       .causal = causal,
                       .lengths = turn++ % 2 == 0 ? KeyLengths::kNone : KeyLengths::kMixed,
                       .window = window});
      }
    }
  }
}

// Sinks, top-k, dropout and packed sequences, alone and together.
void add_others(std::vector<Case>& all) {
  for (Score score : {Score::kDot, Score::kAdditive}) {
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{3, 70}, {49, 33}, {20, 130}}) {
      const Case plain = {.shape = {.B = 3, .H = 2, .Hkv = 1, .T = T, .S = S, .D = 16, .Dv = 12},
                          .score = score,
                          .causal = Causal::kBottomRight};
      Case sinks = plain, dropout = plain, packed = plain, together = plain;
      sinks.sinks = dropout.sinks = true;
      sinks.lengths = KeyLengths::kMixed;
      dropout.dropout = 0.3;
      packed.packed = true;
      packed.shape.B = 5;
      together.packed = together.sinks = true;
      together.dropout = 0.1;
      together.window.left = 9;
      together.mechanism = Mechanism::kAlibi;
      all.insert(all.end(), {sinks, dropout, packed, together});
      if (score == Score::kAdditive) continue;
      for (int64_t top_k : {1, 8, 60}) {
        Case top = plain;
        top.top_k = top_k;
        top.exact = true;
        top.sinks = top_k == 8;
        top.mechanism = top_k == 60 ? Mechanism::kRelative : Mechanism::kNone;
        top.packed = top_k == 1;
        all.push_back(top);
      }
    }
  }
  all.push_back(
      {.shape = {.B = 2, .H = 2, .Hkv = 1, .T = 9, .S = 20, .D = 8, .Dv = 8}, .dropout = 1});
}

}  // namespace

const std::vector<Case>& plain_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    add_sizes(all);
    add_widths(all);
    add_groups(all);
    add_long(all);
    add_odd(all);
    return all;
  }();
  return cases;
}

const std::vector<Case>& feature_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    add_programs(all);
    add_windows(all);
    add_others(all);
    return all;
  }();
  return cases;
}

}  // namespace heed::testing
