#include "heed/data/subwords.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <unordered_map>

#include "heed/data/atomic_file.h"
#include "heed/data/config.h"
#include "heed/data/error.h"

namespace heed {
namespace spm = sentencepiece;

struct Subwords::Model {
  std::string bytes;  // the serialised model, as saved
  spm::SentencePieceProcessor processor;

  static std::shared_ptr<const Model> parse(std::string bytes, const std::string& where) {
    auto model = std::make_shared<Model>();
    model->bytes = std::move(bytes);
    const auto status = model->processor.LoadFromSerializedProto(model->bytes);
    if (!status.ok()) throw UserError(where + ": not a SentencePiece model, or cut short");
    const auto& p = model->processor;
    if (p.pad_id() != kPad || p.unk_id() != kUnknown || p.bos_id() != kBegin ||
        p.eos_id() != kEnd) {
      throw UserError(where + ": expected the ids pad 0, unknown 1, begin 2, end 3");
    }
    return model;
  }
};

namespace {

class LineIterator final : public spm::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ >= lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  spm::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  size_t at_ = 0;
};

void check_choice(const std::string& key, const std::string& value,
                  const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  std::string message = "subwords " + key + " '" + value + "': expected one of";
  for (const std::string& choice : choices) message += " " + choice;
  throw UserError(message);
}

}  // namespace

Subwords Subwords::train(const std::vector<std::string>& lines, const SubwordOptions& options) {
  check_choice("type", options.type, {"unigram", "bpe", "char", "word"});
  check_choice("normalization", options.normalization,
               {"identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"});
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", options.type},
      {"vocab_size", std::to_string(options.vocabulary)},
      {"hard_vocab_limit", "false"},  // a small corpus simply gives fewer pieces
      {"character_coverage", std::to_string(options.character_coverage)},
      {"pad_id", std::to_string(kPad)},
      {"unk_id", std::to_string(kUnknown)},
      {"bos_id", std::to_string(kBegin)},
      {"eos_id", std::to_string(kEnd)},
      {"normalization_rule_name", options.normalization},
      {"add_dummy_prefix", options.leading_space ? "true" : "false"},
      {"num_threads", "1"},  // the same pieces on every machine
      {"minloglevel", "2"},
  };
  std::string bytes;
  LineIterator iterator(lines);
  const auto status = spm::SentencePieceTrainer::Train(arguments, &iterator, &bytes);
  if (!status.ok()) {
    throw UserError("subwords can't be learnt from " + std::to_string(lines.size()) +
                    " lines: " + status.ToString());
  }
  return Subwords(Model::parse(std::move(bytes), "subwords just learnt"));
}

Subwords Subwords::load(const std::filesystem::path& file) {
  std::ifstream input(file, std::ios::binary);
  if (!input || std::filesystem::is_directory(file))
    throw UserError(file.string() + ": no such file, or it can't be read");
  std::string bytes{std::istreambuf_iterator<char>(input), {}};
  return Subwords(Model::parse(std::move(bytes), file.string()));
}

void Subwords::save(const std::filesystem::path& file) const {
  write_file_atomically(file, model_->bytes);
}

int64_t Subwords::size() const { return model_->processor.GetPieceSize(); }

std::vector<int64_t> Subwords::encode(const std::string& text) const {
  const std::vector<int> ids = model_->processor.EncodeAsIds(text);
  return {ids.begin(), ids.end()};
}

std::vector<int64_t> Subwords::sample(const std::string& text, double alpha) const {
  std::vector<int> ids;
  const auto status =
      model_->processor.SampleEncode(text, /*nbest_size=*/-1, static_cast<float>(alpha), &ids);
  if (!status.ok()) throw UserError("these subwords can't be sampled: " + status.ToString());
  return {ids.begin(), ids.end()};
}

std::string Subwords::decode(const std::vector<int64_t>& ids) const {
  std::vector<int> pieces;
  for (const int64_t id : ids) {
    if (id >= 0 && id < size() && id != kPad && id != kBegin && id != kEnd) {
      pieces.push_back(static_cast<int>(id));
    }
  }
  return model_->processor.DecodeIds(pieces);
}

std::string Subwords::piece(int64_t id) const {
  return model_->processor.IdToPiece(static_cast<int>(id));
}

void set_sampling_seed(uint32_t seed) { spm::SetRandomGeneratorSeed(seed); }

}  // namespace heed
