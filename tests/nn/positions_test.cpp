// Modules of positions inside MultiHeadAttention against plain formulas on [B,H,T,S].
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/polar.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/nn/init.h>

#include <cmath>
#include <functional>
#include <limits>

#include "heed/nn/alibi.h"
#include "heed/nn/learned_positions.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/relative_positions.h"
#include "heed/nn/rotary_positions.h"
#include "heed/nn/sinusoidal_positions.h"
#include "heed/nn/t5_bias.h"
#include "heed/nn/transformer_xl_positions.h"
#include "tests/nn/testing.h"

namespace heed::nn {
namespace {

constexpr double kAtol = 1e-4;

constexpr int64_t B = 2, H = 4, D = 4, E = H * D;

using Parameters = torch::OrderedDict<std::string, at::Tensor>;

// What is added to the scaled product, [...,T,S], of q [B,H,T,D], k [B,H,S,D] and ahead [T,S].
using Term = std::function<at::Tensor(Parameters&, const at::Tensor& q, const at::Tensor& k,
                                      const at::Tensor& ahead)>;

struct Case {
  std::string name;
  std::function<std::shared_ptr<AttentionPositionsImpl>()> make;
  Term term;
  int64_t value_distance = 0;  // of value vectors, where there are
};

at::Tensor rows_of(const at::Tensor& table, const at::Tensor& ahead, int64_t far) {
  return table.index({ahead.clamp(-far, far) + far});  // [T,S,*]
}

Case shaw(int64_t far, bool values) {
  return {"Shaw",
          [=] {
            return RelativePositions(RelativePositionsOptions{
                                         .head_size = D, .max_distance = far, .values = values})
                .ptr();
          },
          [=](Parameters& p, const at::Tensor& q, const at::Tensor&, const at::Tensor& ahead) {
            const at::Tensor a = rows_of(p["positions.key_table"], ahead, far);
            return at::einsum("bhtd,tsd->bhts", {q, a}) / std::sqrt(D);
          },
          values ? far : 0};
}

at::Tensor transformer_xl_term(Parameters& p, const at::Tensor& q, const at::Tensor& k,
                               const at::Tensor& ahead) {
  const at::Tensor f = at::pow(10000.0, -at::arange(0, E, 2, at::kDouble) / E);
  const at::Tensor angles = -ahead.unsqueeze(-1) * f;
  const at::Tensor waves = at::cat({angles.sin(), angles.cos()}, -1).to(at::kFloat);  // [T,S,E]
  const at::Tensor r = at::matmul(waves, p["positions.projection.weight"].t()).unflatten(2, {H, D});
  const at::Tensor moved = q + p["positions.position_bias"].unsqueeze(1);
  const at::Tensor of_keys = (k * p["positions.content_bias"].unsqueeze(1)).sum(-1).unsqueeze(2);
  return (at::einsum("bhtd,tshd->bhts", {moved, r}) + of_keys) / std::sqrt(D);
}

std::vector<Case> cases() {
  return {
      {"Alibi", [] { return Alibi(AlibiOptions{.heads = H}).ptr(); },
       [](Parameters&, const at::Tensor&, const at::Tensor&, const at::Tensor& ahead) {
         const at::Tensor slopes = at::exp2(-2.0 * at::arange(1, H + 1));
         return -slopes.view({H, 1, 1}) * ahead.abs();
       }},
      {"T5Bias",
       [] { return T5Bias(T5BiasOptions{.heads = H, .buckets = 8, .max_distance = 6}).ptr(); },
       [](Parameters& p, const at::Tensor&, const at::Tensor&, const at::Tensor& ahead) {
         // Of 4 buckets a side, 0 and 1 are exact; 2 starts at 2, 3 at sqrt(2 * 6).
         const at::Tensor distance = ahead.abs();
         const at::Tensor bucket = distance.clamp_max(2) + (distance >= 4).to(at::kLong);
         return p["positions.bias"].index({bucket + (ahead > 0) * 4}).permute({2, 0, 1});
       }},
      shaw(3, true),
      shaw(1, true),
      shaw(2, false),
      {"TransformerXL",
       [] {
         return TransformerXLPositions(TransformerXLPositionsOptions{.embed_size = E, .heads = H})
             .ptr();
       },
       transformer_xl_term}};
}

MultiHeadAttention made(const Case& c) {
  MultiHeadAttention module(
      MultiHeadAttentionOptions{.embed_size = E, .heads = H, .positions = c.make()});
  const at::NoGradGuard no_grad;
  for (auto& parameter : module->named_parameters()) {
    if (parameter.key().starts_with("positions")) parameter.value().normal_();
  }
  return module;
}

// The formula; queries stand at offset + t and, if causal, see no key after them.
AttentionOutput plain(MultiHeadAttention& module, const Case& c, const at::Tensor& query,
                      const at::Tensor& memory, int64_t offset, bool causal) {
  Parameters p = module->named_parameters();
  const auto project = [&](const std::string& name, const at::Tensor& x) {
    return at::matmul(x, p[name + "_projection.weight"].t()) + p[name + "_projection.bias"];
  };
  const auto heads = [&](const std::string& name, const at::Tensor& x) {
    return project(name, x).unflatten(2, {H, D}).transpose(1, 2);
  };
  const at::Tensor q = heads("query", query), k = heads("key", memory), v = heads("value", memory);
  const at::Tensor ahead =
      at::arange(k.size(2)) - (at::arange(q.size(2)).unsqueeze(-1) + offset);  // [T,S]
  at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(D) + c.term(p, q, k, ahead);
  if (causal) scores = scores.masked_fill(ahead > 0, -std::numeric_limits<double>::infinity());
  const at::Tensor weights = at::softmax(scores, -1);
  at::Tensor mixed = at::matmul(weights, v);
  if (c.value_distance > 0) {
    const at::Tensor rows = rows_of(p["positions.value_table"], ahead, c.value_distance);
    mixed = mixed + at::einsum("bhts,tsd->bhtd", {weights, rows});
  }
  return {project("output", mixed.transpose(1, 2).flatten(2)), weights};
}

TEST(Positions, ScoresAndGradientsAreTheFormulas) {
  struct Layout {
    int64_t T, S, offset;
    Causal causal;
  };
  for (const Case& c : cases()) {
    for (const Layout& layout :
         {Layout{9, 9, 0, Causal::kNone}, Layout{9, 9, 0, Causal::kTopLeft},
          Layout{4, 9, 5, Causal::kBottomRight}, Layout{2, 5, 0, Causal::kNone},
          // Shaw by parts, Transformer-XL by wider products:
          Layout{70, 70, 0, Causal::kNone}, Layout{40, 100, 60, Causal::kBottomRight}}) {
      at::manual_seed(1);
      MultiHeadAttention module = made(c);
      const at::Tensor query = at::randn({B, layout.T, E}).requires_grad_(true);
      const at::Tensor memory = at::randn({B, layout.S, E}).requires_grad_(true);
      const AttentionOutput got =
          module(query, memory, memory, at::Tensor(), layout.causal, Weights::kReturn);
      const AttentionOutput expected =
          plain(module, c, query, memory, layout.offset, layout.causal != Causal::kNone);
      expect_near(got.output, expected.output, c.name, kAtol);
      expect_near(got.weights, expected.weights.detach(), c.name, kAtol);
      std::vector<at::Tensor> leaves = module->parameters();
      leaves.insert(leaves.end(), {query, memory});
      expect_same_gradients({got.output}, {expected.output}, leaves, kAtol);
    }
  }
}

TEST(Positions, StepByStepWithUnequalLengthsIsTheWholeAtOnce) {
  std::vector<Case> all = cases();
  all.push_back({"Rotary",
                 [] { return RotaryPositions(RotaryPositionsOptions{.head_size = D}).ptr(); },
                 nullptr});
  for (const Case& c : all) {
    at::manual_seed(2);
    MultiHeadAttention module = made(c);
    const at::NoGradGuard no_grad;
    const at::Tensor x = at::randn({B, 8, E});
    KeyValueCache cache = module->make_cache(B, 8);
    const at::Tensor prompt = x.narrow(1, 0, 5);
    const at::Tensor first = module
                                 ->attend(prompt, prompt, prompt,
                                          {.lengths = at::tensor({5, 3}, at::kLong),
                                           .causal = Causal::kTopLeft,
                                           .cache = &cache})
                                 .output;
    const at::Tensor next = at::stack({x[0].narrow(0, 5, 2), x[1].narrow(0, 3, 2)});
    const at::Tensor then =
        module->attend(next, next, next, {.causal = Causal::kTopLeft, .cache = &cache}).output;
    for (const int64_t b : {0, 1}) {
      const int64_t start = b == 0 ? 5 : 3;
      const at::Tensor whole = x.narrow(0, b, 1).narrow(1, 0, start + 2);
      const at::Tensor expected =
          module(whole, whole, whole, at::Tensor(), Causal::kTopLeft).output[0];
      expect_near(first[b].narrow(0, 0, start), expected.narrow(0, 0, start), c.name, kAtol);
      expect_near(then[b], expected.narrow(0, start, 2), c.name, kAtol);
    }
  }
}

TEST(Positions, WithoutAKeyGradientsStayFinite) {
  for (const Case& c : cases()) {
    MultiHeadAttention module = made(c);
    const at::Tensor x = at::randn({B, 4, E});
    const at::Tensor out = module(x, x, x, at::tensor({4, 0}, at::kLong)).output;
    EXPECT_EQ(out[1].abs().max().item<float>(), 0) << c.name;
    out.sum().backward();
    for (const at::Tensor& parameter : module->parameters()) {
      EXPECT_TRUE(!parameter.grad().defined() || parameter.grad().isfinite().all().item<bool>());
    }
  }
}

TEST(RotaryPositions, TurnsPairsAsComplexNumbers) {
  const at::Tensor x = at::randn({B, H, 9, 8}, at::kDouble);
  const at::Tensor offset = at::tensor({3, 70}, at::kLong);
  const at::Tensor places = offset.unsqueeze(-1) + at::arange(9);  // [B,9]
  const at::Tensor angles =
      places.unsqueeze(1).unsqueeze(-1) * at::pow(100.0, -at::arange(0, 6, 2, at::kDouble) / 6);
  const at::Tensor turn = at::polar(at::ones_like(angles), angles);  // [B,1,9,3]
  for (const bool halves : {true, false}) {
    RotaryPositions module(RotaryPositionsOptions{
        .head_size = 8,
        .size = 6,
        .base = 100,
        .pairing = halves ? RotaryPairing::kHalfSplit : RotaryPairing::kInterleaved});
    const at::Tensor got = module->rotate(x, offset);
    const at::Tensor pairs = halves ? x.narrow(-1, 0, 6).unflatten(-1, {2, 3}).transpose(-1, -2)
                                    : x.narrow(-1, 0, 6).unflatten(-1, {3, 2});
    const at::Tensor z = at::complex(pairs.select(-1, 0), pairs.select(-1, 1)) * turn;
    const at::Tensor parts[] = {at::real(z), at::imag(z)};
    expect_near(got.narrow(-1, 0, 6), at::stack(parts, halves ? -2 : -1).flatten(-2), "turned",
                kAtol);
    EXPECT_TRUE(got.narrow(-1, 6, 2).equal(x.narrow(-1, 6, 2)));
  }
}

TEST(RotaryPositions, ScalingStretchesLongWaves) {
  const auto frequencies = [](const RotaryScaling& scaling, int64_t length) {
    RotaryPositions module(
        RotaryPositionsOptions{.head_size = 64, .base = 10000, .scaling = scaling});
    return module->frequencies(length);
  };
  using Kind = RotaryScaling::Kind;
  const at::Tensor plain = frequencies({}, 0);
  expect_near(frequencies({.kind = Kind::kLinear, .factor = 4}, 0), plain / 4, "linear", kAtol);
  for (const Kind kind : {Kind::kYarn, Kind::kLlama3}) {
    const at::Tensor f = frequencies({.kind = kind, .factor = 8}, 0);
    EXPECT_DOUBLE_EQ(f[0].item<double>(), plain[0].item<double>());
    EXPECT_DOUBLE_EQ(f[31].item<double>(), plain[31].item<double>() / 8);
  }
  const RotaryScaling dynamic{.kind = Kind::kDynamic, .factor = 2, .original_length = 16};
  expect_near(frequencies(dynamic, 16), plain, "short", kAtol);
  expect_near(frequencies(dynamic, 40)[31] * std::pow(4.0, 1), plain[31], "long", kAtol);
}

TEST(Alibi, SlopesForAnyNumberOfHeads) {
  expect_near(alibi_slopes(4), at::tensor({0.25, 0.0625, 0.015625, 0.00390625}), "4", kAtol);
  expect_near(alibi_slopes(3), at::tensor({0.0625, 0.00390625, 0.25}), "3", kAtol);
}

TEST(SinusoidalPositions, AreSinesAndCosinesInTurn) {
  SinusoidalPositions module(SinusoidalPositionsOptions{.embed_size = 4});
  const at::Tensor p = module(at::zeros({1, 3, 4}), at::tensor({5}, at::kLong))[0];  // [3,4]
  for (int64_t t = 0; t < 3; ++t) {
    const double place = static_cast<double>(5 + t);
    const at::Tensor expected =
        at::tensor({std::sin(place), std::cos(place), std::sin(place / 100), std::cos(place / 100)},
                   at::kFloat);
    expect_near(p[t], expected, "row", kAtol);
  }
}

TEST(LearnedPositions, AreRowsOfTheirWeight) {
  LearnedPositions module(LearnedPositionsOptions{.length = 6, .embed_size = 4});
  const at::Tensor x = at::randn({2, 3, 4});
  const at::Tensor got = module(x, at::tensor({0, 3}, at::kLong)) - x;
  expect_near(got.flatten(0, 1), module->named_parameters()["weight"], "rows", kAtol);
  EXPECT_THROW(module(x, at::tensor({0, 4}, at::kLong)), c10::Error);
}

TEST(Positions, SayWhatIsWrongAndWhatTheyAre) {
  EXPECT_THROW(SinusoidalPositions(SinusoidalPositionsOptions{.embed_size = 5}), c10::Error);
  EXPECT_THROW(Alibi(AlibiOptions{.heads = 0}), c10::Error);
  EXPECT_THROW(T5Bias(T5BiasOptions{.heads = 2, .buckets = 3}), c10::Error);
  EXPECT_THROW(RelativePositions(RelativePositionsOptions{.head_size = 4, .max_distance = 0}),
               c10::Error);
  EXPECT_THROW(TransformerXLPositions(TransformerXLPositionsOptions{.embed_size = 6, .heads = 4}),
               c10::Error);
  EXPECT_THROW(RotaryPositions(RotaryPositionsOptions{.head_size = 4, .size = 6}), c10::Error);
  using Kind = RotaryScaling::Kind;
  for (const RotaryScaling& scaling :
       {RotaryScaling{.kind = Kind::kLinear, .factor = 0.5}, RotaryScaling{.kind = Kind::kDynamic},
        RotaryScaling{.kind = Kind::kLlama3, .low_frequency = 4}}) {
    EXPECT_THROW(RotaryPositions(RotaryPositionsOptions{.head_size = 2, .scaling = scaling}),
                 c10::Error);
  }
  for (const Case& c : cases()) {
    const std::string text = printed(c.make());
    EXPECT_TRUE(text.starts_with("heed::nn::")) << text;
  }
}

}  // namespace
}  // namespace heed::nn
