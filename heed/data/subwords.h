// SentencePiece subwords (Kudo & Richardson 2018): trained from a corpus, kept as one model file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace heed {

struct SubwordOptions {
  int64_t vocabulary = 6000;
  std::string type = "unigram";  // unigram, bpe, char or word
  double character_coverage = 1.0;
  std::string normalization = "nmt_nfkc";  // identity keeps full-width punctuation
  bool leading_space = true;               // as if a space stood before the text; not for Chinese

  template <class Visitor>
  void visit(Visitor& v) {
    v("vocabulary", vocabulary, {16, 1e6});
    v("type", type);
    v("character_coverage", character_coverage, {0.9, 1.0});
    v("normalization", normalization);
    v("leading_space", leading_space);
  }
};

class Subwords {
 public:
  static constexpr int64_t kPad = 0, kUnknown = 1, kBegin = 2, kEnd = 3;

  // Learns a model from the lines. The same lines give the same model.
  static Subwords train(const std::vector<std::string>& lines, const SubwordOptions& options);
  static Subwords load(const std::filesystem::path& file);
  void save(const std::filesystem::path& file) const;

  int64_t size() const;
  std::vector<int64_t> encode(const std::string& text) const;  // without begin and end marks
  // One of the many ways to cut the text, drawn at random (Kudo 2018); smaller alpha is wilder.
  // Unigram models only: UserError for the others.
  // Draws come from the calling thread's generator, which a new thread starts from `sampling_seed`.
  std::vector<int64_t> sample(const std::string& text, double alpha) const;
  std::string decode(const std::vector<int64_t>& ids) const;  // marks and padding dropped
  std::string piece(int64_t id) const;                        // "▁love"

 private:
  struct Model;
  explicit Subwords(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;
};

void set_sampling_seed(uint32_t seed);  // for threads that start sampling after this

}  // namespace heed
