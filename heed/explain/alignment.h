// What one translation looked at: the tokens of both sides and the attention between them.
#pragma once

#include <string>
#include <vector>

namespace heed {

struct Alignment {
  std::vector<std::string> source = {},
                           target = {};  // S and T tokens, SentencePiece's marker included
  std::vector<float> weights = {};       // [T,S] row major, each row sums to 1
  std::string source_text = {}, target_text = {};
  double score = 0;
  std::string title = {};
  std::vector<bool> planted = {};  // [T,S], where the answers are known to stand; empty: unknown

  bool is_planted(size_t t, size_t s) const {
    return !planted.empty() && planted[t * source.size() + s];
  }
  float weight(size_t t, size_t s) const { return weights[t * source.size() + s]; }
};

// Throws std::invalid_argument unless there is one weight, and one planted where there are any, for
// each pair of tokens.
void require_consistent(const Alignment& alignment);

// A weight as JSON writes it, to six significant digits. Every place that shows a whole weight
// shows this.
std::string format_weight(float weight);

// One line: {"source": text, "translation": text, "source_tokens": [...], "target_tokens": [...],
// "score": x, "attention": [[...], ...]}. Invalid UTF-8 becomes U+FFFD, a non-finite number null.
std::string alignment_json(const Alignment& alignment);

}  // namespace heed
