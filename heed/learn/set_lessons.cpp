// Sets: attention that pools them to one vector, and attention among their elements.
#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/nn/attention_pooling.h"
#include "heed/nn/set_attention.h"

namespace heed::learn {
namespace {

// The value of the largest of some numbers.
constexpr int64_t kNumbers = 16;
Symbols draw_largest(int64_t batch) {
  constexpr int64_t kCount = 10;
  const at::Tensor numbers = draw_words(batch, kCount, kNumbers),
                   signs = draw_signs({batch, kCount});
  const at::Tensor largest = numbers.argmax(1, /*keepdim=*/true);  // [B,1]
  return ask_at(at::zeros({batch, 1}, at::kLong), numbers, signs, largest);
}

Lesson attention_pooling_lesson() {
  return {.name = "attention_pooling",
          .mechanism = "pooling by attention, Yang 2016, Lin 2017",
          .page = "attention_pooling",
          .task = "Which sign stands at the largest number?",
          .make = []() -> std::shared_ptr<Learner> {
            nn::AttentionPooling pool(
                nn::AttentionPoolingOptions{.embed_size = kWidth, .hidden_size = kWidth});
            return symbol_learner(
                {.draw = draw_largest,
                 .query_symbols = 1,
                 .key_symbols = kNumbers,
                 .value_symbols = kSigns,
                 .query_name = question,
                 .key_name = digit,
                 .value_name = letter},
                pool,
                [pool](const at::Tensor&, const at::Tensor& numbers, const at::Tensor& signs,
                       const at::Tensor& lengths, nn::Weights weights) mutable {
                  return pool(numbers + signs, lengths, weights);
                });
          },
          .steps = 300,
          .learning_rate = 1e-2};
}

// All elements of a set are of one kind but one, whose sign is asked for.
constexpr int64_t kSetKinds = 3;
Symbols draw_odd_one(int64_t batch) {
  constexpr int64_t kElements = 8;
  const at::Tensor kind = at::randint(kSetKinds, {batch, 1}, at::kLong);
  const at::Tensor other =
      (kind + at::randint(1, kSetKinds, {batch, 1}, at::kLong)).remainder(kSetKinds);
  const at::Tensor place = at::randint(kElements, {batch, 1}, at::kLong);
  const at::Tensor odd = place.eq(at::arange(kElements));  // [B,S]
  const at::Tensor signs = draw_signs({batch, kElements});
  return ask_at(at::zeros({batch, 1}, at::kLong), at::where(odd, other, kind), signs, place);
}

constexpr nn::SetAttentionOptions kSetOptions = {.embed_size = kWidth, .heads = 1};

// Kinds see each other by `encode`; only pooling sees signs.
template <class Encode>
std::shared_ptr<Learner> odd_one_learner(std::shared_ptr<torch::nn::Module> encoder,
                                         Encode encode) {
  const auto both = std::make_shared<torch::nn::Module>();
  if (encoder != nullptr) both->register_module("encode", encoder);
  nn::PoolingByMultiheadAttention pool =
      both->register_module("pool", nn::PoolingByMultiheadAttention(kSetOptions));
  return std::make_shared<SymbolLearner>(
      SymbolLearnerOptions{.draw = draw_odd_one,
                           .query_symbols = 1,
                           .key_symbols = kSetKinds,
                           .value_symbols = kSigns,
                           .query_name = question,
                           .key_name = letter,
                           .value_name = digit},
      both,
      [=](const at::Tensor&, const at::Tensor& kinds, const at::Tensor& signs,
          const at::Tensor& lengths, nn::Weights weights) mutable {
        return first_head(pool(encode(kinds, lengths) + signs, lengths, weights));
      });
}

Lesson odd_one_lesson(std::string name, std::string mechanism,
                      std::function<std::shared_ptr<Learner>()> make, std::string cannot = "") {
  return {.name = std::move(name),
          .mechanism = std::move(mechanism),
          .page = "set_attention",
          .task = "All elements of a set are of one kind but one: what is its sign?",
          .make = std::move(make),
          .steps = 400,
          .batch = 32,
          .learning_rate = 4e-3,
          .cannot = std::move(cannot),
          .most_accuracy = 0.75};
}

std::shared_ptr<Learner> by_set_attention() {
  nn::SetAttentionBlock block(kSetOptions);
  return odd_one_learner(block.ptr(),
                         [block](const at::Tensor& x, const at::Tensor& lengths) mutable {
                           return block(x, lengths).output;
                         });
}

std::shared_ptr<Learner> by_induced_points() {
  nn::InducedSetAttentionBlock block(kSetOptions, /*points=*/4);
  return odd_one_learner(block.ptr(),
                         [block](const at::Tensor& x, const at::Tensor& lengths) mutable {
                           return block(x, lengths).output;
                         });
}

std::shared_ptr<Learner> by_pooling_alone() {
  return odd_one_learner(nullptr, [](const at::Tensor& x, const at::Tensor&) { return x; });
}

}  // namespace

std::vector<Lesson> set_lessons() {
  return {
      attention_pooling_lesson(),
      odd_one_lesson("set_attention", "set attention, Lee 2019 (SAB and PMA)", by_set_attention),
      odd_one_lesson("induced_points", "set attention by induced points, Lee 2019 (ISAB and PMA)",
                     by_induced_points),
      odd_one_lesson("pooling_alone", "pooling by multi-head attention, Lee 2019 (PMA)",
                     by_pooling_alone,
                     "each element's score is its own: none knows what the others are")};
}

}  // namespace heed::learn
