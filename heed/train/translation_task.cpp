#include "heed/train/translation_task.h"

#include <ATen/Context.h>
#include <ATen/core/Reduction.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cmath>
#include <future>

#include "heed/data/config.h"
#include "heed/data/digest.h"
#include "heed/data/error.h"

namespace heed::train {
namespace {

constexpr int64_t kSum = at::Reduction::Sum;

class TranslationTask final : public Task {
 public:
  TranslationTask(const TranslationTraining& config, const std::filesystem::path& data_folder);

  torch::nn::Module& module() override { return *translator_->model(); }
  int64_t plan_epoch(int64_t epoch) override;
  Loss loss(int64_t batch) override;
  Validation validate() override;
  void save_best() override;

  std::string description() const;
  std::string corpus_digest() const;  // SHA-256 of the training pairs

 private:
  std::vector<EncodedPair> encode(const std::vector<SentencePair>& pairs, bool sampled) const;
  at::Tensor loss_sum(const TranslationBatch& batch, double label_smoothing);

  const TranslationTraining& config_;
  std::vector<SentencePair> train_text_;
  std::unique_ptr<models::Translator> translator_;
  std::vector<EncodedPair> train_, dev_;
  std::vector<std::vector<size_t>> plan_;  // of planned_epoch_
  int64_t planned_epoch_ = 0;
};

std::vector<std::string> side(const std::vector<SentencePair>& pairs,
                              std::string SentencePair::*member) {
  std::vector<std::string> lines;
  for (const SentencePair& pair : pairs) lines.push_back(pair.*member);
  return lines;
}

TranslationTask::TranslationTask(const TranslationTraining& config,
                                 const std::filesystem::path& data_folder)
    : config_(config), train_text_(load_pairs(config.data, data_folder, Split::kTrain)) {
  if (train_text_.empty()) throw UserError("data: no training pair is left after the split");
  std::fprintf(stderr, "learning subwords from %zu sentence pairs\n", train_text_.size());
  models::TranslatorConfig described;
  described.source_language = config.source_language;
  described.target_language = config.target_language;
  described.length_penalty = config.length_penalty;
  described.data = config.data;
  described.model = config.model;
  at::manual_seed(static_cast<uint64_t>(config.training.seed));
  translator_ = std::make_unique<models::Translator>(
      described, Subwords::train(side(train_text_, &SentencePair::source), config.source_subwords),
      Subwords::train(side(train_text_, &SentencePair::target), config.target_subwords));
  train_ = encode(train_text_, /*sampled=*/false);
  dev_ = encode(load_pairs(config.data, data_folder, Split::kDev), /*sampled=*/false);
  if (dev_.empty()) throw UserError("data: no validation pair; give dev files or a dev_percent");
}

std::string TranslationTask::description() const {
  int64_t parameters = 0;
  for (const auto& tensor : translator_->model()->parameters()) parameters += tensor.numel();
  return std::to_string(train_.size()) + " training pairs, " + std::to_string(dev_.size()) +
         " for validation; subwords " + std::to_string(translator_->source_subwords().size()) +
         " + " + std::to_string(translator_->target_subwords().size()) + "; " +
         std::to_string(parameters) + " parameters";
}

std::string TranslationTask::corpus_digest() const {
  std::string all;
  for (const SentencePair& pair : train_text_) all += pair.source + "\t" + pair.target + "\n";
  return sha256(all);
}

std::vector<EncodedPair> TranslationTask::encode(const std::vector<SentencePair>& pairs,
                                                 bool sampled) const {
  std::vector<EncodedPair> encoded;
  for (const SentencePair& pair : pairs) {
    EncodedPair ids;
    const Subwords& source = translator_->source_subwords();
    ids.source =
        sampled ? source.sample(pair.source, config_.subword_sampling) : source.encode(pair.source);
    ids.source.push_back(Subwords::kEnd);
    ids.target = translator_->target_subwords().encode(pair.target);
    const auto longest = static_cast<size_t>(config_.longest);
    if (ids.source.size() <= longest && ids.target.size() < longest) {
      encoded.push_back(std::move(ids));
    }
  }
  return encoded;
}

int64_t TranslationTask::plan_epoch(int64_t epoch) {
  if (epoch != planned_epoch_) {
    const auto seed =
        static_cast<uint64_t>(config_.training.seed) * 1000003 + static_cast<uint64_t>(epoch);
    if (config_.subword_sampling > 0) {
      // SentencePiece draws from a generator of the thread's own: a new thread starts it from the
      // seed, so an epoch is cut alike whether or not the training was resumed before it.
      set_sampling_seed(static_cast<uint32_t>(seed));
      train_ = std::async(std::launch::async, [&] {
                 return encode(train_text_, /*sampled=*/true);
               }).get();
    }
    plan_ = plan_batches(train_, config_.batch_tokens, seed);
    planned_epoch_ = epoch;
  }
  return static_cast<int64_t>(plan_.size());
}

at::Tensor TranslationTask::loss_sum(const TranslationBatch& batch, double label_smoothing) {
  const at::Tensor readouts = translator_->model()->forward(batch.source, batch.source_lengths,
                                                            batch.target_in);  // [B,T,E]
  const at::Tensor written = batch.target_out.view(-1).ne(Subwords::kPad).nonzero().squeeze(1);
  const at::Tensor logits =
      translator_->model()->logits(readouts.flatten(0, 1).index_select(0, written));  // [N,V]
  return at::cross_entropy_loss(logits, batch.target_out.view(-1).index_select(0, written),
                                /*weight=*/{}, kSum, /*ignore_index=*/-100, label_smoothing);
}

Task::Loss TranslationTask::loss(int64_t batch) {
  const TranslationBatch made = make_batch(train_, plan_[static_cast<size_t>(batch)]);
  return {loss_sum(made, config_.label_smoothing), made.target_tokens};
}

Task::Validation TranslationTask::validate() {
  const at::NoGradGuard no_grad;
  double sum = 0;
  int64_t tokens = 0;
  for (const auto& chosen : plan_batches(dev_, config_.batch_tokens, /*shuffle_seed=*/0)) {
    const TranslationBatch batch = make_batch(dev_, chosen);
    sum += loss_sum(batch, /*label_smoothing=*/0).item<double>();
    tokens += batch.target_tokens;
  }
  const double loss = sum / static_cast<double>(tokens);
  char perplexity[32];
  std::snprintf(perplexity, sizeof perplexity, "perplexity %.2f", std::exp(loss));
  return {loss, perplexity};
}

void TranslationTask::save_best() {
  translator_->save_description(config_.output);
  translator_->save_weights(config_.output, config_.half_precision ? at::kHalf : at::kFloat);
}

}  // namespace

Outcome train_translation(const TranslationTraining& config,
                          const std::filesystem::path& data_folder, Start start) {
  if (config.subword_sampling > 0 && config.source_subwords.type != "unigram") {
    throw UserError("subword_sampling: only source_subwords.type unigram can be sampled, got " +
                    config.source_subwords.type + "; set it to 0");
  }
  Schedule(config.training.schedule, /*total_steps=*/1);  // a wrong name is said before long work
  TranslationTask task(config, data_folder);
  std::fprintf(stderr, "%s\n", task.description().c_str());
  nlohmann::ordered_json identity = config_json(config);
  identity["data"]["digest"] = task.corpus_digest();  // a resumed run must find the same sentences
  return train(task, config.training, config.output, identity.dump(), start);
}

}  // namespace heed::train
