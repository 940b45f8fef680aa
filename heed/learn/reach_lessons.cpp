// Lessons of the mechanisms that choose where to look.
#include <ATen/ops/arange.h>
#include <torch/nn/module.h>

#include <cmath>
#include <functional>
#include <iomanip>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/asking.h"
#include "heed/learn/lesson.h"
#include "heed/learn/reach_tasks.h"
#include "heed/nn/adaptive_span_attention.h"
#include "heed/nn/block_attention.h"
#include "heed/nn/document_attention.h"
#include "heed/nn/dot_attention.h"
#include "heed/nn/dynamic_sparse_attention.h"
#include "heed/nn/local_attention.h"
#include "heed/nn/local_predictive_attention.h"
#include "heed/nn/longformer_attention.h"
#include "heed/nn/top_k_attention.h"

namespace heed::learn {
namespace {

constexpr double kReachRate = 2e-2;  // what these small models take

std::shared_ptr<Learner> far_learner() {
  constexpr int64_t kQueries = 12, kLength = 48, kFar = 24;
  const auto draw = [](int64_t B) {
    const at::Tensor seen = offsets(kLength).narrow(0, 0, kQueries).ge(kFar);  // [T,S]
    return ask_within(draw_verses(B, kLength, kLength), seen.unsqueeze(0));
  };
  return symbol_learner(over_words(kLength, draw), nn::DotAttention());
}

std::shared_ptr<Learner> offset_learner(int64_t window, int64_t offset) {
  constexpr int64_t kLength = 24;
  const auto draw = [=](int64_t B) { return draw_offset(B, kLength, offset, kSigns); };
  return symbol_learner({.draw = draw,
                         .query_symbols = 1,
                         .key_symbols = kSigns,
                         .value_symbols = kSigns,
                         .positions = kLength,
                         .query_name = question},
                        nn::LocalAttention(nn::LocalAttentionOptions{.window = window}));
}

std::shared_ptr<Learner> verse_learner() {
  constexpr int64_t kQueries = 16, kVerses = 3, kWords = 4;
  // From the middle, where centres start, every place is in the window.
  const nn::LocalPredictiveAttention module(
      nn::LocalPredictiveAttentionOptions{.query_size = kWidth, .size = kWidth, .window = 6.5});
  // Luong's dot product is not scaled; so wide, it would decide before the places are learnt.
  const Attend attend = [module](const at::Tensor& query, const at::Tensor& keys,
                                 const at::Tensor& values, const at::Tensor& lengths,
                                 nn::Weights weights) {
    return module.ptr()->forward(query, keys / std::sqrt(kWidth), values, lengths, weights);
  };
  SymbolLearnerOptions options{
      .draw = [](int64_t B) { return draw_word_of_verse(B, kQueries, kVerses, kWords); },
      .query_symbols = kVerses * kWords,
      .key_symbols = kWords,
      .value_symbols = kSigns,
      .query_name =
          [](int64_t place) { return letter(place % kWords) + digit(1 + place / kWords); },
      .key_name = letter,
      .value_name = digit};
  return symbol_learner(std::move(options), module, attend);
}

std::shared_ptr<Learner> headline_learner() {
  constexpr int64_t kLength = 24;
  const nn::LongformerAttention module(
      nn::LongformerAttentionOptions{.embed_size = kWidth, .heads = 1, .window = 3});
  const Attend attend = [module](const at::Tensor& query, const at::Tensor& keys,
                                 const at::Tensor& values, const at::Tensor& lengths,
                                 nn::Weights weights) {
    const at::Tensor x = query + keys + values;  // [B,T,E]
    const at::Tensor is_global = at::arange(x.size(1)).eq(0).expand({x.size(0), x.size(1)});
    return first_head(module.ptr()->forward(x, is_global, lengths, weights));
  };
  SymbolLearnerOptions options{
      .draw = [](int64_t B) { return draw_headline(B, kLength); },
      .query_symbols = kHeadlineQueries,
      .key_symbols = 2,
      .value_symbols = kSigns,
      .positions = kLength,
      .query_name =
          [](int64_t query) {
            return query == kAskMark ? "marked?" : query == kAskLeft ? "left?" : "headline?";
          },
      .key_name = [](int64_t marked) { return marked == 1 ? "*" : "-"; },
      .value_name = digit};
  return symbol_learner(std::move(options), module, attend);
}

std::shared_ptr<Learner> block_learner() {
  constexpr int64_t kLength = 24, kBlock = 6;
  const auto draw = [](int64_t B) {
    const at::Tensor block = at::arange(kLength).floor_divide(kBlock);  // [T]
    const at::Tensor same = block.unsqueeze(1).eq(block.unsqueeze(0));  // [T,S]
    return ask_within(draw_verses(B, kLength, kBlock), same.unsqueeze(0));
  };
  return symbol_learner(over_words(kBlock, draw), nn::BlockAttention(nn::BlockAttentionOptions{
                                                      .block_size = kBlock, .neighbours = 0}));
}

std::shared_ptr<Learner> document_learner() {
  constexpr int64_t kLength = 24, kWords = 8;
  const nn::DocumentAttention module;
  // [B,T] of what was drawn last and is asked.
  const auto documents = std::make_shared<at::Tensor>();
  const auto draw = [documents](int64_t B) {
    *documents = draw_documents(B, kLength, /*longest=*/kWords);
    const at::Tensor same = documents->unsqueeze(2).eq(documents->unsqueeze(1));  // [B,T,S]
    return ask_within(draw_verses(B, kLength, kWords), same);
  };
  const Attend attend = [module, documents](const at::Tensor& query, const at::Tensor& keys,
                                            const at::Tensor& values, const at::Tensor& lengths,
                                            nn::Weights weights) {
    return first_head(
        module.ptr()->forward(query, keys, values, {.of_queries = *documents}, lengths, weights));
  };
  return symbol_learner(over_words(kWords, draw), module, attend);
}

// Shows how far it came to look.
class SpanLearner : public SymbolLearner {
 public:
  SpanLearner(SymbolLearnerOptions options, int64_t max_span,
              const nn::AdaptiveSpanAttention& module)
      : SymbolLearner(std::move(options), module.ptr(), ask(module)),
        max_span_(max_span),
        module_(module) {}

  Answers answer(int64_t batch, Purpose purpose) override {
    module_->clamp_span();
    return SymbolLearner::answer(batch, purpose);
  }

  Alignment example() override {
    Alignment example = SymbolLearner::example();
    std::ostringstream title;
    title << "learnt span: " << std::fixed << std::setprecision(1)
          << static_cast<double>(max_span_) * module_->named_parameters()["span"].item<double>()
          << " of at most " << max_span_ << " places";
    example.title = title.str();
    return example;
  }

 private:
  int64_t max_span_;
  nn::AdaptiveSpanAttention module_;
};

std::shared_ptr<Learner> span_learner() {
  constexpr int64_t kLength = 24, kReach = 12;
  const nn::AdaptiveSpanAttention module(
      nn::AdaptiveSpanAttentionOptions{.max_span = kLength, .ramp = 4});
  return std::make_shared<SpanLearner>(over_recent_words(kLength, kReach), kLength, module);
}

std::shared_ptr<Learner> bucket_learner() {
  const nn::DynamicSparseAttention module(
      nn::DynamicSparseAttentionOptions{.head_size = kWidth, .buckets = 4, .rounds = 6});
  const Attend attend = [module](const at::Tensor& query, const at::Tensor& keys,
                                 const at::Tensor& values, const at::Tensor& lengths,
                                 nn::Weights weights) {
    // What never meets learns nothing of each other: other rotations at each step.
    if (module->is_training()) module.ptr()->reset_parameters();
    return ask(module)(query, keys, values, lengths, weights);
  };
  return symbol_learner(over_dictionary(/*queries=*/8, /*length=*/16, /*words=*/16), module,
                        attend);
}

std::shared_ptr<Learner> top_k_learner() {
  constexpr int64_t kWords = 24, kDenseSteps = 250;
  const auto steps = std::make_shared<int64_t>(0);
  const Attend attend = [steps](const at::Tensor& query, const at::Tensor& keys,
                                const at::Tensor& values, const at::Tensor& lengths,
                                nn::Weights weights) {
    // What is dropped learns nothing, so all keys are kept at first.
    const double kept = (*steps)++ < kDenseSteps ? 1 : 0.125;
    const nn::TopKAttention module(nn::TopKAttentionOptions{.sparsity_factor = kept});
    return ask(module)(query, keys, values, lengths, weights);
  };
  return std::make_shared<SymbolLearner>(over_dictionary(/*queries=*/16, kWords, kWords), nullptr,
                                         attend);
}

}  // namespace

std::vector<Lesson> reach_lessons() {
  return {
      {.name = "global",
       .mechanism = "global attention, Luong 2015",
       .page = "dot_attention",
       .task = "A word is asked for that stands at least 24 places further on.",
       .make = far_learner,
       .steps = 300,
       .batch = 32,
       .learning_rate = kReachRate},
      {.name = "local",
       .mechanism = "local attention in a window, Luong 2015 (local-m)",
       .page = "local_attention",
       .task = "What stood three places before? The window reaches four.",
       .make = [] { return offset_learner(/*window=*/4, /*offset=*/3); },
       .steps = 300,
       .batch = 32,
       .learning_rate = kReachRate},
      {.name = "local_too_short",
       .mechanism = "local attention in a window, Luong 2015 (local-m)",
       .page = "local_attention",
       .task = "What stood six places before? The window reaches four.",
       .make = [] { return offset_learner(/*window=*/4, /*offset=*/6); },
       .steps = 300,
       .batch = 32,
       .learning_rate = kReachRate,
       .cannot = "the answer stands outside the window, where no weight can go"},
      {.name = "local_predictive",
       .mechanism = "predictive local attention, Luong 2015 (local-p)",
       .page = "local_predictive_attention",
       .task = "Three verses of the same four words: only its place tells which verse is meant.",
       .make = verse_learner,
       .steps = 300,
       .batch = 32,
       .learning_rate = kReachRate},
      {.name = "longformer",
       .mechanism = "a window and global tokens, Beltagy 2020 (Longformer)",
       .page = "longformer_attention",
       .task = "Some ask for the headline at place 0, some for the second to their left; the "
               "headline itself asks for a marked place, wherever it is.",
       .make = headline_learner,
       .steps = 300,
       .batch = 16,
       .learning_rate = 1e-2},
      {.name = "block",
       .mechanism = "attention among blocks, Qiu 2020, Zaheer 2020 (BigBird)",
       .page = "block_attention",
       .task = "All blocks hold the same six words: the one in the query's own block is meant.",
       .make = block_learner,
       .steps = 250,
       .batch = 32,
       .learning_rate = kReachRate},
      {.name = "document",
       .mechanism = "attention within packed documents, Krell 2021",
       .page = "document_attention",
       .task = "Documents of four to eight of the same words share a row: the word is meant that "
               "stands in the query's own.",
       .make = document_learner,
       .steps = 250,
       .batch = 32,
       .learning_rate = kReachRate},
      {.name = "adaptive_span",
       .mechanism = "adaptive span, Sukhbaatar 2019",
       .page = "adaptive_span_attention",
       .task = "A word is asked for that stands up to eleven places back; at first only three are "
               "in reach, so the span has to grow.",
       .make = span_learner,
       .steps = 300,
       .batch = 16,
       .learning_rate = 1e-2},
      {.name = "dynamic_sparse",
       .mechanism = "sparsity by content, Kitaev 2020 (Reformer)",
       .page = "dynamic_sparse_attention",
       .task = "A word is asked for among sixteen: its key has to fall into the query's bucket.",
       .make = bucket_learner,
       .steps = 300,
       .batch = 8,
       .learning_rate = kReachRate},
      {.name = "top_k",
       .mechanism = "top-k attention, Zhao 2019 (Explicit Sparse Transformer)",
       .page = "top_k_attention",
       .task = "A word is asked for among 24; three keys are kept, the rest get no weight.",
       .make = top_k_learner,
       .steps = 400,
       .batch = 32,
       .learning_rate = kReachRate},
  };
}

}  // namespace heed::learn
