#include "heed/models/translator.h"

#include <ATen/ops/log_softmax.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <numeric>

#include "heed/data/atomic_file.h"
#include "heed/data/config.h"
#include "heed/data/error.h"
#include "heed/data/safetensors.h"
#include "heed/data/text.h"
#include "heed/data/translation_batches.h"
#include "heed/models/parameters.h"

namespace heed::models {
namespace {

// The model behind the search: the rows' memory and state.
class RnnStepDecoder final : public StepDecoder {
 public:
  RnnStepDecoder(RnnTranslator model, SourceMemory memory, DecoderState state, nn::Weights weights)
      : model_(std::move(model)),
        memory_(std::move(memory)),
        state_(std::move(state)),
        weights_(weights) {}

  void select(const at::Tensor& rows) override {
    memory_ = memory_.select(rows);
    state_ = state_.select(rows);
  }

  Step step(const at::Tensor& tokens) override {
    Step result;
    const at::Tensor readout = model_->step(
        tokens, memory_, state_, weights_ == nn::Weights::kReturn ? &result.weights : nullptr);
    result.log_probabilities = at::log_softmax(model_->logits(readout), -1);
    return result;
  }

 private:
  RnnTranslator model_;
  SourceMemory memory_;
  DecoderState state_;
  nn::Weights weights_;
};

TranslatorConfig with_vocabularies(TranslatorConfig config, const Subwords& source,
                                   const Subwords& target) {
  config.model_type = "rnn_translator";
  config.model.source_vocabulary = source.size();
  config.model.target_vocabulary = target.size();
  return config;
}

// A batch of decoder rows that fits comfortably into memory.
constexpr size_t kSentencesAtOnce = 32;

}  // namespace

Translator::Translator(TranslatorConfig config, Subwords source, Subwords target)
    : config_(with_vocabularies(std::move(config), source, target)),
      source_(std::move(source)),
      target_(std::move(target)),
      model_(config_.model) {}

Translator Translator::load(const std::filesystem::path& folder) {
  const std::filesystem::path config_file = folder / "config.json";
  if (!std::filesystem::is_directory(folder)) {
    throw UserError(folder.string() +
                    ": no such model folder; train one with: heed train CONFIG.yaml");
  }
  if (!std::filesystem::exists(config_file)) {
    throw UserError(folder.string() +
                    ": no config.json: no model, or its training has not yet reached a validation");
  }
  const auto config = read_config<TranslatorConfig>(load_yaml(config_file), config_file.string());
  if (config.model_type != "rnn_translator") {
    throw UserError(config_file.string() + ": model_type: expected rnn_translator, got '" +
                    config.model_type + "'");
  }
  Translator translator(config, Subwords::load(folder / "source.spm"),
                        Subwords::load(folder / "target.spm"));
  const std::filesystem::path weights_file = folder / "model.safetensors";
  load_tensors(*translator.model_, read_safetensors(weights_file).tensors, weights_file.string());
  translator.model_->eval();
  return translator;
}

void Translator::save_description(const std::filesystem::path& folder) const {
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "config.json", config_json(config_).dump(2) + "\n");
  source_.save(folder / "source.spm");
  target_.save(folder / "target.spm");
}

void Translator::save_weights(const std::filesystem::path& folder, at::ScalarType dtype) const {
  NamedTensors tensors = named_tensors(*model_);
  for (auto& [name, value] : tensors) value = value.to(dtype);
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

std::vector<int64_t> Translator::encode_source(const std::string& text) const {
  if (const size_t valid = valid_utf8_prefix(text); valid < text.size()) {
    throw UserError("not UTF-8 at byte " + std::to_string(valid + 1) +
                    "; convert the text with iconv -t UTF-8");
  }
  std::vector<int64_t> ids = source_.encode(config_.data.source.apply(text));
  if (ids.empty()) throw UserError("empty; expected a sentence to translate");
  ids.push_back(Subwords::kEnd);
  const auto count = static_cast<int64_t>(ids.size());
  if (count > kMaxSourceTokens) {
    throw UserError(std::to_string(count) + " subwords, at most " +
                    std::to_string(kMaxSourceTokens) + " are read; put one sentence on a line");
  }
  return ids;
}

Translation Translator::finish(const std::vector<int64_t>& source, Hypothesis hypothesis,
                               nn::Weights weights) const {
  Translation translation{.text = target_.decode(hypothesis.tokens), .score = hypothesis.score};
  for (const int64_t id : source) translation.source_tokens.push_back(source_.piece(id));
  for (const int64_t id : hypothesis.tokens) translation.target_tokens.push_back(target_.piece(id));
  if (weights == nn::Weights::kReturn) {
    for (size_t t = 0; t < hypothesis.tokens.size(); ++t) {
      const std::vector<float>& row = hypothesis.weights[t];  // [S of the batch]
      translation.weights.insert(translation.weights.end(), row.begin(),
                                 row.begin() + static_cast<std::ptrdiff_t>(source.size()));
    }
  }
  return translation;
}

std::vector<std::vector<Translation>> Translator::translate(
    const std::vector<std::vector<int64_t>>& sources, const BeamOptions& beam,
    nn::Weights weights) {
  const at::NoGradGuard no_grad;
  model_->eval();
  // Sentences of like length share a batch, so that little is padding.
  std::vector<size_t> order(sources.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sources[a].size() < sources[b].size(); });
  std::vector<std::vector<Translation>> results(sources.size());
  for (size_t begin = 0; begin < order.size(); begin += kSentencesAtOnce) {
    const size_t end = std::min(order.size(), begin + kSentencesAtOnce);
    std::vector<const std::vector<int64_t>*> rows;
    for (size_t i = begin; i < end; ++i) rows.push_back(&sources[order[i]]);
    const auto [source, lengths] = pad_rows(rows);  // [B,S], [B]
    auto [memory, state] = model_->encode(source, lengths);
    RnnStepDecoder decoder(model_, std::move(memory), std::move(state), weights);
    auto hypotheses = beam_search(decoder, static_cast<int64_t>(rows.size()),
                                  {.begin = Subwords::kBegin,
                                   .end = Subwords::kEnd,
                                   .never = {Subwords::kPad, Subwords::kUnknown, Subwords::kBegin}},
                                  beam);
    for (size_t i = begin; i < end; ++i) {
      for (Hypothesis& hypothesis : hypotheses[i - begin]) {
        results[order[i]].push_back(finish(sources[order[i]], std::move(hypothesis), weights));
      }
    }
  }
  return results;
}

}  // namespace heed::models
