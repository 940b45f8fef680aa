// Lessons of attention in linear time: what a state of fixed size recalls, and what it can't.
#include <memory>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/learn/reach_tasks.h"
#include "heed/nn/linear_attention.h"
#include "heed/nn/random_feature_attention.h"

namespace heed::learn {
namespace {

std::shared_ptr<Learner> linear_learner() {
  return symbol_learner(over_dictionary(/*queries=*/16, /*length=*/8, /*words=*/8),
                        nn::LinearAttention());
}

std::shared_ptr<Learner> causal_linear_learner() {
  return symbol_learner(over_recent_words(/*length=*/12, /*reach=*/12),
                        nn::LinearAttention(nn::LinearAttentionOptions{.causal = true}));
}

std::shared_ptr<Learner> small_state_learner() {
  SymbolLearnerOptions options = over_dictionary(/*queries=*/16, /*length=*/64, /*words=*/64);
  options.size = 8;
  return symbol_learner(std::move(options), nn::LinearAttention());
}

std::shared_ptr<Learner> random_feature_learner() {
  return symbol_learner(over_dictionary(/*queries=*/16, /*length=*/12, /*words=*/12),
                        nn::RandomFeatureAttention(nn::RandomFeatureAttentionOptions{
                            .head_size = kWidth, .features = 64}));
}

}  // namespace

std::vector<Lesson> linear_lessons() {
  return {
      {.name = "linear",
       .mechanism = "linear attention, elu + 1, Katharopoulos 2020",
       .page = "linear_attention",
       .task = "One of eight words is asked for, which a state of 32 x 32 numbers holds.",
       .make = linear_learner,
       .steps = 400,
       .batch = 32,
       .learning_rate = 2e-2},
      {.name = "linear_causal",
       .mechanism = "causal linear attention, elu + 1, Katharopoulos 2020",
       .page = "linear_attention",
       .task = "A word is asked for that has been seen, of twelve that come one by one.",
       .make = causal_linear_learner,
       .steps = 500,
       .batch = 32,
       .learning_rate = 2e-2},
      {.name = "linear_beyond_state",
       .mechanism = "linear attention, elu + 1, Katharopoulos 2020",
       .page = "linear_attention",
       .task = "One of 64 words is asked for, with a state of 8 x 8 numbers.",
       .make = small_state_learner,
       .steps = 400,
       .batch = 32,
       .learning_rate = 2e-2,
       .cannot = "8 x 8 numbers are all that is kept of 64 pairs (the softmax, which keeps the "
                 "pairs, recalls them all at this width)"},
      {.name = "random_features",
       .mechanism = "random features, Choromanski 2021 (Performer's FAVOR+)",
       .page = "random_feature_attention",
       .task = "One of twelve words is asked for; the weights are estimates from 64 features.",
       .make = random_feature_learner,
       .steps = 300,
       .batch = 32,
       .learning_rate = 2e-2},
  };
}

}  // namespace heed::learn
