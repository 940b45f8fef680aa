// Attention on two levels: words of a sentence, sentences of a document.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/where.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "heed/learn/lesson.h"
#include "heed/learn/symbols.h"
#include "heed/nn/hierarchical_attention.h"

namespace heed::learn {
namespace {

// Every sentence has one noun; where one of a document's nouns is marked, its sign is asked for.
// Of the documents some have no mark, so that "not found" stands for no sign.
class DocumentLearner : public Learner {
 public:
  DocumentLearner() {
    signs_ = register_parameter("signs", at::randn({kSigns, kWidth}));
    kinds_ = register_parameter("kinds", at::randn({kKinds, kWidth}));
    attention_ =
        register_module("attention", nn::HierarchicalAttention(nn::HierarchicalAttentionOptions{
                                         .embed_size = kWidth, .hidden_size = kWidth}));
    reading_ = register_module("reading", torch::nn::Linear(kWidth, kSigns + 1));
  }

  Answers answer(int64_t batch, Purpose purpose) override {
    const Documents documents = draw(batch);
    const nn::HierarchicalOutput seen = look(documents, weights_for(purpose));
    const at::Tensor marked = documents.kinds.eq(kMarked).flatten(1);  // [B,N*T]
    return {
        .logits = reading_(seen.output),
        .targets = at::where(marked.any(1), (documents.signs.flatten(1) * marked).sum(1), kSigns),
        .weights = weights_of_words(seen),
        .planted = marked};
  }

  // A row for the words of each sentence, then one for those of the document.
  Alignment example() override {
    Documents documents = draw(1);
    while (!documents.kinds.eq(kMarked).any().item<bool>()) documents = draw(1);
    const nn::HierarchicalOutput seen = look(documents, nn::Weights::kReturn);
    const at::Tensor own = at::eye(kSentences).unsqueeze(2);                  // [N,N,1]
    const at::Tensor in_sentences = (own * seen.word_weights[0]).flatten(1);  // [N,N*T]
    const at::Tensor marked = documents.kinds.eq(kMarked).flatten();
    std::vector<std::string> source, target;
    for (int64_t s = 0; s < kSentences * kWords; ++s) {
      const std::string kinds[] = {"", "n:", "*:"};
      source.push_back(kinds[documents.kinds.flatten()[s].item<int64_t>()] +
                       digit(documents.signs.flatten()[s].item<int64_t>()));
    }
    for (int64_t n = 0; n < kSentences; ++n) target.push_back("sentence " + digit(n + 1));
    target.push_back("document");
    return shown(std::move(source), std::move(target),
                 at::cat({in_sentences, weights_of_words(seen)}),
                 at::cat({in_sentences.ne(0) & marked, marked.unsqueeze(0)}));
  }

 private:
  static constexpr int64_t kSentences = 4, kWords = 3;  // N, T
  enum Kind : int64_t { kPlain, kNoun, kMarked, kKinds };

  struct Documents {
    at::Tensor signs, kinds;  // [B,N,T]
  };

  static Documents draw(int64_t batch) {
    const at::Tensor noun = at::randint(kWords, {batch, kSentences, 1}, at::kLong);
    const at::Tensor sentence = at::randint(kSentences + 1, {batch, 1}, at::kLong);  // N: none
    const at::Tensor marked = sentence.eq(at::arange(kSentences)).unsqueeze(2);      // [B,N,1]
    return {.signs = draw_signs({batch, kSentences, kWords}),
            .kinds = noun.eq(at::arange(kWords)) * at::where(marked, kMarked, kNoun)};
  }

  nn::HierarchicalOutput look(const Documents& documents, nn::Weights weights) {
    return attention_(
        at::embedding(signs_, documents.signs) + at::embedding(kinds_, documents.kinds),
        at::Tensor(), at::Tensor(), weights);
  }

  // [B,N*T]: a word's weight in its sentence, times the sentence's; undefined where none returned.
  static at::Tensor weights_of_words(const nn::HierarchicalOutput& seen) {
    if (!seen.word_weights.defined()) return {};
    return (seen.word_weights * seen.sentence_weights.unsqueeze(2)).flatten(1);
  }

  at::Tensor signs_, kinds_;
  nn::HierarchicalAttention attention_{nullptr};
  torch::nn::Linear reading_{nullptr};
};

Lesson hierarchical_lesson() {
  return {.name = "hierarchical",
          .mechanism = "hierarchical attention, Yang 2016",
          .page = "hierarchical_attention",
          .task =
              "Every sentence has a noun, and one noun of the document is marked: what is its "
              "sign?",
          .make = [] { return std::make_shared<DocumentLearner>(); },
          .steps = 300,
          .learning_rate = 1e-2};
}

}  // namespace

std::vector<Lesson> hierarchical_lessons() { return {hierarchical_lesson()}; }

}  // namespace heed::learn
