// Lessons of weights for whole channels and patches of feature maps.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/cbam.h"
#include "heed/nn/squeeze_excitation.h"

namespace heed::learn {
namespace {

at::Tensor one_hot_of(const at::Tensor& symbols, int64_t count) {
  return at::one_hot(symbols, count).to(at::kFloat);
}

// Brightness [B,n] as logits: the answer is told by shares of it, so that no gain is in letting
// little or much through.
at::Tensor shares(const at::Tensor& brightness) { return (brightness + 1e-6).log(); }

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
    // The bright pixel of each channel.
    const at::Tensor bright = at::randint(kPixels, {batch, kChannels}, at::kLong);
    const at::Tensor named = at::randint(kChannels, {batch, 1}, at::kLong);
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
    const at::Tensor bright = at::randint(4, {batch, kChannels, n}, at::kLong);
    const at::Tensor channel = at::randint(kChannels, {batch, 1}, at::kLong),
                     patch = at::randint(n, {batch, 1}, at::kLong);
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

}  // namespace

std::vector<Lesson> channel_lessons() {
  return {squeeze_excitation_lesson(), blind_to_places_lesson(), cbam_lesson(),
          channels_only_lesson()};
}

}  // namespace heed::learn
