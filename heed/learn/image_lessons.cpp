// Lessons on feature maps: which channel, which patch, which pixel.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/full.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/cbam.h"
#include "heed/nn/non_local_attention.h"
#include "heed/nn/relative_positions_2d.h"
#include "heed/nn/squeeze_excitation.h"

namespace heed::learn {
namespace {

at::Tensor drawn(at::IntArrayRef sizes, int64_t below) {
  return at::randint(below, sizes, at::kLong);
}

at::Tensor one_hot_of(const at::Tensor& symbols, int64_t count) {
  return at::one_hot(symbols, count).to(at::kFloat);
}

// Brightness [B,n] as logits: the answer is told by shares of it, so that no gain is in letting
// little or much through.
at::Tensor shares(const at::Tensor& brightness) { return (brightness + 1e-6).log(); }

std::vector<std::string> labels(int64_t count, const std::function<std::string(int64_t)>& name) {
  std::vector<std::string> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(name(i));
  return result;
}

// weights and planted [n,rows,columns] of n maps beside one another: a0 a1 ... b0 b1 ... across.
Alignment shown_maps(const at::Tensor& weights, const at::Tensor& planted) {
  const int64_t n = weights.size(0), rows = weights.size(1), columns = weights.size(2);
  const auto beside = [](const at::Tensor& maps) { return maps.transpose(0, 1).flatten(1); };
  const auto across = [&](int64_t i) { return letter(i / columns) + digit(i % columns); };
  return shown(labels(n * columns, across), labels(rows, digit), beside(weights), beside(planted));
}

// --- Which channel -----------------------------------------------------------------------------

// Each of the channels has one bright pixel. A cue names one of them: which is its bright pixel?
class ChannelLearner : public Learner {
 public:
  // How n is named: one of kChannels further channels is bright all over, or the one further
  // channel's n-th pixel is bright.
  enum class Cue { kBrightness, kPlace };

  explicit ChannelLearner(Cue cue) : cue_(cue) {
    gate_ = register_module("gate", nn::SqueezeExcitation(nn::SqueezeExcitationOptions{
                                        .channels = 2 * kChannels, .reduction = 2}));
  }

  Answers answer(int64_t batch, Purpose) override {
    const at::Tensor bright = drawn({batch, kChannels}, kPixels);  // the pixel of each channel
    const at::Tensor named = drawn({batch, 1}, kChannels);
    const at::Tensor channels = one_hot_of(bright, kPixels);  // [B,channels,pixels]
    const nn::ChannelAttentionOutput seen =
        gate_(at::cat({channels, cues(named)}, 1).unflatten(2, {kSide, kSide}));
    // Which channel a pixel is of can't be told from the sum, unless the others are faint.
    return {.logits = shares(seen.output.narrow(1, 0, kChannels).sum(1).flatten(1)),
            .targets = bright.gather(1, named).squeeze(1),
            .weights = seen.channel_weights.narrow(1, 0, kChannels),
            .planted = named.eq(at::arange(kChannels))};
  }

  Alignment example() override {
    const Answers maps = answer(8, Purpose::kJudging);
    const auto asked = [&](int64_t i) {
      return capital(maps.planted[i].to(at::kLong).argmax().item<int64_t>());
    };
    return shown(labels(kChannels, letter), labels(8, asked), maps.weights, maps.planted);
  }

 private:
  static constexpr int64_t kChannels = 8, kSide = 4, kPixels = kSide * kSide;

  at::Tensor cues(const at::Tensor& named) const {  // [B,channels,pixels]
    if (cue_ == Cue::kBrightness) {
      // In another order than the channels' own.
      const at::Tensor cue = (3 * named + 1).remainder(kChannels).squeeze(1);
      return one_hot_of(cue, kChannels).unsqueeze(2).expand({-1, -1, kPixels});
    }
    const at::Tensor none = at::zeros({named.size(0), kChannels - 1, kPixels});
    return at::cat({one_hot_of(named, kPixels), none}, 1);
  }

  Cue cue_;
  nn::SqueezeExcitation gate_{nullptr};
};

Lesson squeeze_excitation_lesson() {
  return {.name = "squeeze_excitation",
          .mechanism = "squeeze and excitation, Hu 2018",
          .page = "squeeze_excitation",
          .task =
              "Eight channels have a bright pixel each, and the brightness of eight others names "
              "one: where is its pixel?",
          .make = [] { return std::make_shared<ChannelLearner>(ChannelLearner::Cue::kBrightness); },
          .steps = 400,
          .learning_rate = 2e-2};
}

Lesson blind_to_places_lesson() {
  return {.name = "squeeze_excitation_place",
          .mechanism = "squeeze and excitation, Hu 2018",
          .page = "squeeze_excitation",
          .task =
              "Eight channels have a bright pixel each, and the place of another channel's names "
              "one: where is its pixel?",
          .make = [] { return std::make_shared<ChannelLearner>(ChannelLearner::Cue::kPlace); },
          .steps = 300,
          .learning_rate = 2e-2,
          .cannot = "the mean of a channel does not say where its pixel is"};
}

// --- Which channel and which patch -------------------------------------------------------------

struct MapWeights {
  at::Tensor output;          // [B,C,rows,columns]
  at::Tensor of_channels;     // [B,C]
  at::Tensor of_pixels = {};  // [B,rows,columns]; undefined: all alike
};
using Gate = std::function<MapWeights(const at::Tensor& x)>;

// In each patch of each channel one of four pixels is bright. A channel is named as above, a patch
// by a marker: which pixel is bright there?
class PatchLearner : public Learner {
 public:
  PatchLearner(std::shared_ptr<torch::nn::Module> module, Gate gate) : gate_(std::move(gate)) {
    register_module("gate", std::move(module));
  }

  static constexpr int64_t kChannels = 4, kPatches = 3, kSide = 2 * kPatches;
  static constexpr int64_t kAll = 2 * kChannels + 1;  // with a cue a channel and the marker

  Answers answer(int64_t batch, Purpose) override {
    const int64_t n = kPatches * kPatches;
    const at::Tensor bright = drawn({batch, kChannels, n}, 4);
    const at::Tensor channel = drawn({batch, 1}, kChannels), patch = drawn({batch, 1}, n);
    const at::Tensor is_channel = one_hot_of(channel.squeeze(1), kChannels);  // [B,channels]
    const at::Tensor is_patch = one_hot_of(patch.squeeze(1), n).unsqueeze(1).unsqueeze(3);
    const at::Tensor x =
        at::cat({one_hot_of(bright, 4), is_channel.unsqueeze(2).unsqueeze(3).expand({-1, -1, n, 4}),
                 2 * is_patch.expand({-1, -1, -1, 4})},
                1);  // [B,kAll,n,4]
    const MapWeights seen = gate_(pixels_of(x));
    const at::Tensor of_channels = seen.of_channels.narrow(1, 0, kChannels);
    at::Tensor weights = of_channels.unsqueeze(2).unsqueeze(3).expand({-1, -1, kSide, kSide});
    if (seen.of_pixels.defined()) weights = weights * seen.of_pixels.unsqueeze(1);
    const at::Tensor place = is_channel.unsqueeze(2).unsqueeze(3) * is_patch;  // [B,channels,n,1]
    return {.logits = shares(patches_of(seen.output.narrow(1, 0, kChannels)).sum({1, 2})),
            .targets = bright.flatten(1).gather(1, channel * n + patch).squeeze(1),
            .weights = weights.flatten(1),
            .planted = pixels_of(place.expand({-1, -1, -1, 4})).flatten(1).gt(0)};
  }

  Alignment example() override {
    const Answers one = answer(1, Purpose::kJudging);
    const auto maps = [](const at::Tensor& x) { return x[0].view({kChannels, kSide, kSide}); };
    return shown_maps(maps(one.weights), maps(one.planted));
  }

 private:
  // [B,C,patches,4] <-> [B,C,rows,columns].
  static at::Tensor pixels_of(const at::Tensor& x) {
    return x.unflatten(3, {2, 2})
        .unflatten(2, {kPatches, kPatches})
        .transpose(3, 4)
        .flatten(4)
        .flatten(2, 3);
  }
  static at::Tensor patches_of(const at::Tensor& x) {
    return x.unflatten(3, {kPatches, 2})
        .unflatten(2, {kPatches, 2})
        .transpose(3, 4)
        .flatten(4)
        .flatten(2, 3);
  }

  Gate gate_;
};

std::shared_ptr<Learner> cbam_learner() {
  const nn::Cbam cbam(nn::CbamOptions{.channels = PatchLearner::kAll, .reduction = 1});
  return std::make_shared<PatchLearner>(cbam.ptr(), [cbam](const at::Tensor& x) {
    nn::CbamOutput seen = cbam.ptr()->forward(x);
    return MapWeights{seen.output, seen.channel_weights, seen.spatial_weights};
  });
}

std::shared_ptr<Learner> channels_only_learner() {
  const nn::SqueezeExcitation gate(
      nn::SqueezeExcitationOptions{.channels = PatchLearner::kAll, .reduction = 1});
  return std::make_shared<PatchLearner>(gate.ptr(), [gate](const at::Tensor& x) {
    const nn::ChannelAttentionOutput seen = gate.ptr()->forward(x);
    return MapWeights{seen.output, seen.channel_weights};
  });
}

constexpr char kPatchTask[] =
    "Four channels of nine patches; a cue names the channel, a marker the patch: which of its four "
    "pixels is bright?";

Lesson cbam_lesson() {
  return {.name = "cbam",
          .mechanism = "convolutional block attention (CBAM), Woo 2018",
          .page = "cbam",
          .task = kPatchTask,
          .make = cbam_learner,
          .steps = 600,
          .learning_rate = 1e-2};
}

Lesson channels_only_lesson() {
  return {.name = "cbam_channels_only",
          .mechanism = "squeeze and excitation, Hu 2018",
          .page = "cbam",
          .task = kPatchTask,
          .make = channels_only_learner,
          .steps = 300,
          .learning_rate = 1e-2,
          .cannot = "a weight a channel is the same for each of its patches",
          .most_accuracy = 0.65};
}

// --- Which pixel -------------------------------------------------------------------------------

constexpr int64_t kSide = 6, kPixels = kSide * kSide, kValues = 8, kEmbedding = 32;

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
                                               at::randn({task_.alphabets[i], kEmbedding})));
    }
    attention_ = register_module("attention", nn::NonLocalAttention(options));
    reading_ = register_module("reading", torch::nn::Linear(kEmbedding, kValues));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Pixels pixels = task_.draw(batch);
    const bool judging = purpose == Purpose::kJudging;
    const nn::AttentionOutput seen =
        look(pixels, judging ? nn::Weights::kReturn : nn::Weights::kNone);
    const at::Tensor answers = pixels.symbols[0].gather(1, pixels.asked.clamp_min(0));
    // Pixels that ask for none are no question.
    const at::Tensor asks = pixels.asked.ge(0);  // [B,T]
    return {.logits = reading_(seen.output.flatten(2).transpose(1, 2)).index({asks}),
            .targets = answers.index({asks}),
            .weights = judging ? seen.weights.squeeze(1).index({asks}) : at::Tensor(),
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
  return {.channels = kEmbedding, .scale = 0.1, .radius = radius, .positions = positions};
}

at::Tensor row_of(const at::Tensor& pixel) { return pixel.div(kSide, "floor"); }
at::Tensor column_of(const at::Tensor& pixel) { return pixel.remainder(kSide); }

// Each pixel has a word of its own and asks for the word of one at least three rows or columns
// away.
PixelTask far_words() {
  return {.alphabets = {kValues, kPixels, kPixels}, .draw = [](int64_t batch) {
            const at::Tensor pixels = at::arange(kPixels), others = pixels.unsqueeze(1);
            const at::Tensor far = (row_of(pixels) - row_of(others)).abs().ge(3) |
                                   (column_of(pixels) - column_of(others)).abs().ge(3);  // [T,T]
            const at::Tensor words =
                at::rand({batch, kPixels}).argsort(/*dim=*/1, /*descending=*/false);
            const at::Tensor asked = (at::rand({batch, kPixels, kPixels}) * far).argmax(2);
            return Pixels{{drawn({batch, kPixels}, kValues), words, words.gather(1, asked)}, asked};
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
  return {.alphabets = {kValues}, .draw = [](int64_t batch) {
            const at::Tensor asked = pixel_at(at::full({}, 2), at::full({}, -1));
            return Pixels{{drawn({batch, kPixels}, kValues)}, asked.expand({batch, kPixels})};
          }};
}

// Each pixel has an arrow, up, down, left or right, and asks for the second pixel that way.
PixelTask arrows() {
  return {.alphabets = {kValues, 4}, .draw = [](int64_t batch) {
            const at::Tensor arrow = drawn({batch, kPixels}, 4);
            const at::Tensor way = arrow.remainder(2) * 4 - 2;  // -2 or 2
            const at::Tensor asked = pixel_at(way * arrow.lt(2), way * arrow.ge(2));
            return Pixels{{drawn({batch, kPixels}, kValues), arrow}, asked};
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
      .rows = kSide, .columns = kSide, .bias = false, .head_size = kEmbedding / 2});
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

std::vector<Lesson> image_lessons() {
  const nn::RelativePositions2d none(nullptr);
  return {
      squeeze_excitation_lesson(),
      blind_to_places_lesson(),
      cbam_lesson(),
      channels_only_lesson(),
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
