// Tasks of reach: what counts is which keys a query may look at, and how far they lie.
#pragma once

#include "heed/learn/symbols.h"

namespace heed::learn {

// The same words over and over, in an order of each row's own: within `words` places of each other
// no word stands twice. [B,length] int64.
at::Tensor draw_verses(int64_t batch, int64_t length, int64_t words);

// Query t names one of the keys that seen [B or 1,T,S] bool shows it (at least one), by its word:
// the answer is the sign that stands there.
Symbols ask_within(const at::Tensor& keys, const at::Tensor& seen);

// s - t of all pairs, int64 [length,length].
at::Tensor offsets(int64_t length);

// Documents of 4 to `longest` places, one after the other: their numbers, int64 [B,length].
at::Tensor draw_documents(int64_t batch, int64_t length, int64_t longest);

// A row of verses whose words stand in one order; a query (verse * words + word) names a word of a
// verse. [B,queries] over verses * words keys.
Symbols draw_word_of_verse(int64_t batch, int64_t queries, int64_t verses, int64_t words);

// Place 0 asks for the marked place, the others for place 0 or for their second to the left, as
// their query says. T = S = length.
enum HeadlineQuery : int64_t { kAskHeadline, kAskLeft, kAskMark, kHeadlineQueries };
Symbols draw_headline(int64_t batch, int64_t length);

// What a learner takes of words that ask for words, as a lesson draws them.
SymbolLearnerOptions over_words(int64_t words, std::function<Symbols(int64_t batch)> draw);

// `queries` words of a dictionary, of `length` entries out of `words`.
SymbolLearnerOptions over_dictionary(int64_t queries, int64_t length, int64_t words);

// Query t names a word that stands among keys t - reach + 1 to t.
SymbolLearnerOptions over_recent_words(int64_t length, int64_t reach);

}  // namespace heed::learn
