// How a token is shown to people: SentencePiece's marker gone, words apart, nothing that a terminal
// would obey.
#pragma once

#include <string>
#include <vector>

namespace heed {

struct TokenLabel {
  std::string text;             // valid UTF-8 without control characters, never empty
  bool starts_word = false;     // a space belongs before it
  bool continues_word = false;  // the rest of a word written in letters, as "ly" in "love" + "ly"

  // The token alone, away from its neighbours: a linguist's hyphen marks the rest of a word, "-ly".
  std::string alone() const { return continues_word ? "-" + text : text; }
};

std::vector<TokenLabel> token_labels(const std::vector<std::string>& tokens);

}  // namespace heed
