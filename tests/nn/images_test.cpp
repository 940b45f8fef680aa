// Attention on feature maps against plain formulas on [B,H,T,S], outputs and gradients.
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "heed/nn/cbam.h"
#include "heed/nn/multi_head_attention.h"
#include "heed/nn/non_local_attention.h"
#include "heed/nn/relative_positions_2d.h"
#include "heed/nn/squeeze_excitation.h"

namespace heed::nn {
namespace {

constexpr int64_t B = 2, C = 6;
using Parameters = torch::OrderedDict<std::string, at::Tensor>;

// Sides of a map and how it lies in memory.
struct Map {
  int64_t rows, columns;
  at::MemoryFormat format;

  at::Tensor random() const {
    return at::randn({B, C, rows, columns}).contiguous(format).requires_grad_(true);
  }
};

std::vector<Map> maps() {
  std::vector<Map> all;
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    for (const auto& [rows, columns] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 6}, {7, 5}, {8, 8}}) {
      all.push_back({rows, columns, format});
    }
  }
  return all;
}

// Every parameter away from 0, gamma among them.
void draw(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& parameter : module.parameters()) parameter.normal_(0, 0.5);
}

void expect_close(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  EXPECT_TRUE(actual.allclose(expected, 1e-4, 1e-4))
      << what << ": " << (actual - expected).abs().max().item<double>();
}

// The output and the gradients of x and of every parameter.
void expect_same(const torch::nn::Module& module, const at::Tensor& x, const at::Tensor& actual,
                 const at::Tensor& expected, const std::string& what) {
  expect_close(actual, expected, what);
  std::vector<at::Tensor> leaves = module.parameters();
  leaves.push_back(x);
  const at::Tensor direction = at::randn_like(expected);
  const auto gradients = [&](const at::Tensor& y) {
    return torch::autograd::grad({(y * direction).sum()}, leaves);
  };
  const auto ours = gradients(actual), theirs = gradients(expected);
  for (size_t i = 0; i < leaves.size(); ++i) {
    expect_close(ours[i], theirs[i], what + " gradient " + std::to_string(i));
  }
}

at::Tensor perceptron(Parameters& p, const at::Tensor& pooled) {
  const at::Tensor between = at::linear(pooled, p["reduce.weight"], p["reduce.bias"]).relu();
  return at::linear(between, p["expand.weight"], p["expand.bias"]);
}

TEST(SqueezeExcitation, IsTheFormula) {
  for (const int64_t reduction : {2, 4, 16}) {
    for (const Map& map : maps()) {
      at::manual_seed(1);
      SqueezeExcitation module(SqueezeExcitationOptions{.channels = C, .reduction = reduction});
      draw(*module);
      const at::Tensor x = map.random();
      const ChannelAttentionOutput got = module(x);
      Parameters p = module->named_parameters();
      EXPECT_EQ(p["reduce.weight"].size(0), std::max<int64_t>(C / reduction, 1));
      const at::Tensor weights = perceptron(p, x.flatten(2).mean(2)).sigmoid();
      expect_close(got.channel_weights, weights.detach(), "weights");
      EXPECT_FALSE(got.channel_weights.requires_grad());
      expect_same(*module, x, got.output, at::einsum("bcyx,bc->bcyx", {x, weights}), "output");
    }
  }
}

TEST(Cbam, IsTheFormula) {
  for (const Map& map : maps()) {
    at::manual_seed(1);
    Cbam module(CbamOptions{.channels = C, .reduction = 4, .kernel_size = 5});
    draw(*module);
    const at::Tensor x = map.random();
    const CbamOutput got = module(x);
    Parameters p = module->named_parameters();
    const at::Tensor of_channels =
        (perceptron(p, x.flatten(2).mean(2)) + perceptron(p, x.amax({2, 3}))).sigmoid();
    const at::Tensor refined = at::einsum("bcyx,bc->bcyx", {x, of_channels});
    const at::Tensor pooled = at::cat({refined.mean(1, true), refined.amax(1, true)}, 1);
    const at::Tensor of_pixels =
        at::conv2d(pooled, p["spatial.weight"], {}, 1, 2).sigmoid().squeeze(1);
    expect_close(got.channel_weights, of_channels.detach(), "channels");
    expect_close(got.spatial_weights, of_pixels.detach(), "pixels");
    EXPECT_FALSE(got.channel_weights.requires_grad() || got.spatial_weights.requires_grad());
    expect_same(*module, x, got.output, at::einsum("bcyx,byx->bcyx", {refined, of_pixels}),
                "output");
  }
}

struct Case {
  std::string name;
  NonLocalAttentionOptions options;
  // Of positions, where there are: made anew for each module.
  std::optional<RelativePositions2dOptions> positions = std::nullopt;
};

std::vector<Case> cases() {
  const RelativePositions2dOptions bias{.rows = 8, .columns = 9};
  const RelativePositions2dOptions vectors{.rows = 8, .columns = 9, .bias = false, .head_size = 3};
  const RelativePositions2dOptions both{.rows = 8, .columns = 9, .heads = 2, .head_size = 2};
  return {
      {"Wang", {.channels = C}},
      {"SAGAN", {.channels = C, .key_channels = 2, .value_channels = 4, .pool = 2}},
      {"heads", {.channels = C, .key_channels = 3, .value_channels = 6, .heads = 3}},
      {"dot", {.channels = C, .score = NonLocalScore::kDot}},
      {"dot, pooled",
       {.channels = C,
        .key_channels = 4,
        .value_channels = 2,
        .heads = 2,
        .score = NonLocalScore::kDot,
        .pool = 3}},
      {"near", {.channels = C, .scale = 0.5, .radius = 1}},
      {"near, pooled", {.channels = C, .pool = 2, .radius = 3}},
      {"bias", {.channels = C}, bias},
      {"bias, pooled, near", {.channels = C, .pool = 3, .radius = 4}, bias},
      {"vectors", {.channels = C, .scale = 0.5}, vectors},
      {"both, pooled", {.channels = C, .key_channels = 4, .heads = 2, .pool = 2}, both},
  };
}

// Rows and columns from each key, every `stride` pixels, to each query: [T,S].
std::pair<at::Tensor, at::Tensor> offsets(int64_t rows, int64_t columns, int64_t stride) {
  const auto grid = [&](int64_t step) {
    const at::Tensor y = at::arange(0, rows, step), x = at::arange(0, columns, step);
    return std::pair{y.unsqueeze(1).expand({-1, x.size(0)}).flatten(),
                     x.unsqueeze(0).expand({y.size(0), -1}).flatten()};
  };
  const auto [y, x] = grid(1);
  const auto [key_y, key_x] = grid(stride);
  return {y.unsqueeze(1) - key_y, x.unsqueeze(1) - key_x};
}

at::Tensor position_term(Parameters& p, const RelativePositions2dOptions& o, const at::Tensor& q,
                         const at::Tensor& down, const at::Tensor& right, double scale) {
  const at::Tensor row = down + (o.rows - 1), column = right + (o.columns - 1);
  at::Tensor term = at::zeros({});
  if (o.bias) {
    for (int64_t h = 0; h < o.heads; ++h) {
      const at::Tensor of_head = p["positions.bias"][h].index({row, column}).unsqueeze(0);
      term = h == 0 ? of_head : at::cat({term, of_head});  // [H,T,S]
    }
  }
  if (o.head_size == 0) return term;
  const at::Tensor vectors =
      p["positions.row_table"].index({row}) + p["positions.column_table"].index({column});
  return term + scale * at::einsum("bhtd,tsd->bhts", {q, vectors});
}

AttentionOutput plain(NonLocalAttention& module, const Case& c, const at::Tensor& x) {
  Parameters p = module->named_parameters();
  const auto projected = [&](const std::string& name, const at::Tensor& from, int64_t pool) {
    const at::Tensor y =
        at::conv2d(from, p[name + "_projection.weight"].unsqueeze(-1).unsqueeze(-1),
                   p[name + "_projection.bias"]);
    return pool == 1 ? y : at::max_pool2d(y, pool, pool, 0, 1, /*ceil_mode=*/true);
  };
  const auto heads = [&](const at::Tensor& y) {  // [B,H,T,D]
    return y.flatten(2).unflatten(1, {c.options.heads, -1}).transpose(2, 3);
  };
  const at::Tensor q = heads(projected("query", x, 1));
  const at::Tensor k = heads(projected("key", x, c.options.pool));
  const at::Tensor v = heads(projected("value", x, c.options.pool));
  at::Tensor weights = at::matmul(q, k.transpose(2, 3));
  if (c.options.score == NonLocalScore::kDot) {
    weights = weights / k.size(2);
  } else {
    const auto [down, right] = offsets(x.size(2), x.size(3), c.options.pool);
    weights = c.options.scale * weights;
    if (c.positions) {
      weights = weights + position_term(p, *c.positions, q, down, right, c.options.scale);
    }
    if (c.options.radius >= 0) {
      const at::Tensor near = down.abs().le(c.options.radius) & right.abs().le(c.options.radius);
      weights = weights.masked_fill(near.logical_not(), -1e30);
    }
    weights = at::softmax(weights, -1);
  }
  const at::Tensor y = at::matmul(weights, v).transpose(2, 3).flatten(1, 2);
  const at::Tensor change = projected("output", y.unflatten(2, {x.size(2), x.size(3)}), 1);
  return {x + p["gamma"] * change, weights};
}

TEST(NonLocalAttention, IsTheFormula) {
  for (const Case& c : cases()) {
    for (const Map& map : maps()) {
      at::manual_seed(1);
      NonLocalAttentionOptions options = c.options;
      if (c.positions) options.positions = RelativePositions2d(*c.positions);
      NonLocalAttention module(options);
      draw(*module);
      const at::Tensor x = map.random();
      const AttentionOutput got = module(x, Weights::kReturn);
      const AttentionOutput expected = plain(module, c, x);
      expect_close(got.weights, expected.weights.detach(), c.name);
      EXPECT_FALSE(got.weights.requires_grad());
      expect_same(*module, x, got.output, expected.output, c.name);
      EXPECT_FALSE(module(x).weights.defined());
    }
  }
}

TEST(NonLocalAttention, StartsAsTheIdentity) {
  const at::Tensor x = at::randn({B, C, 4, 3});
  EXPECT_TRUE(NonLocalAttention(NonLocalAttentionOptions{.channels = C})(x).output.equal(x));
}

TEST(RelativePositions2d, JoinMultiHeadAttentionWithACache) {
  at::manual_seed(1);
  const RelativePositions2d positions(
      RelativePositions2dOptions{.rows = 3, .columns = 4, .heads = 2, .head_size = 3});
  MultiHeadAttention module(
      MultiHeadAttentionOptions{.embed_size = C, .heads = 2, .positions = positions.ptr()});
  draw(*module);
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::randn({B, 12, C});
  const at::Tensor whole = module(x, x, x, at::Tensor(), Causal::kTopLeft).output;
  KeyValueCache cache = module->make_cache(B, 12);
  std::vector<at::Tensor> steps;
  for (const at::Tensor& part : x.split(5, 1)) {
    steps.push_back(
        module->attend(part, part, part, {.causal = Causal::kTopLeft, .cache = &cache}).output);
  }
  expect_close(at::cat(steps, 1), whole, "steps");
}

void expect_error(const std::function<void()>& call, const std::string& message) {
  try {
    call();
    ADD_FAILURE() << "no error: " << message;
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what_without_backtrace()).find(message), std::string::npos)
        << error.what_without_backtrace();
  }
}

TEST(FeatureMaps, OptionsAndMapsAreChecked) {
  using O = NonLocalAttentionOptions;
  expect_error([] { SqueezeExcitation(SqueezeExcitationOptions{.channels = 0}); },
               "[SqueezeExcitation] channels: expected at least 1, got 0");
  expect_error([] { Cbam(CbamOptions{.channels = 4, .kernel_size = 4}); },
               "[Cbam] kernel_size: expected odd, got 4");
  expect_error([] { NonLocalAttention(O{.channels = 4, .key_channels = 4, .heads = 3}); },
               "expected multiples of heads = 3, got 4, 3");
  expect_error([] { NonLocalAttention(O{.channels = 4, .dropout = 1}); },
               "[NonLocalAttention] dropout: expected in [0, 1), got 1");
  expect_error(
      [] { NonLocalAttention(O{.channels = 4, .score = NonLocalScore::kDot, .radius = 1}); },
      "[NonLocalAttention] score: kDot has no softmax");
  expect_error(
      [] {
        NonLocalAttention(O{.channels = C})(at::zeros({B, C + 1, 3, 3}));
      },
      "[NonLocalAttention] x: expected [B,C,rows,columns] = [*, 6, *, *], got [2, 7, 3, 3]");
  const auto on_map = [](const RelativePositions2dOptions& positions, int64_t rows) {
    NonLocalAttention module(O{.channels = C, .positions = RelativePositions2d(positions)});
    module(at::zeros({B, C, rows, 3}));
  };
  expect_error([&] { on_map({.rows = 3, .columns = 3}, 4); },
               "[RelativePositions2d] queries: expected a map of at most 3 x 3, got 4 x 3");
  expect_error([&] { on_map({.rows = 3, .columns = 3, .heads = 2}, 3); },
               "[RelativePositions2d] heads: expected 2, got 1");
  expect_error([&] { on_map({.rows = 3, .columns = 3, .head_size = 2}, 3); },
               "[RelativePositions2d] head_size: expected 2, got 3");
}

TEST(FeatureMaps, ModulesSayWhatTheyAre) {
  std::ostringstream text;
  text << NonLocalAttention(NonLocalAttentionOptions{.channels = 8, .pool = 2});
  EXPECT_NE(text.str().find("heed::nn::NonLocalAttention(channels=8, key_channels=4, "
                            "value_channels=4, heads=1, score=embedded_gaussian"),
            std::string::npos)
      << text.str();
}

}  // namespace
}  // namespace heed::nn
