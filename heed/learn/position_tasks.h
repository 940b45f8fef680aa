// Tasks of positions: what counts is where a symbol stands, alone or as seen from a query.
#pragma once

#include "heed/learn/symbols.h"

namespace heed::learn {

// Rows of `shortest` to `longest` places in training, of `judged` when judged. The last eight ask.
struct RowLengths {
  int64_t shortest, longest, judged;
};

// Each of the last symbols asks for the third before it.
SymbolLearnerOptions ask_third_before(const RowLengths& lengths);

// Query d asks for the symbol d + 1 places before its own.
SymbolLearnerOptions ask_jump(const RowLengths& lengths);

// Some keys, four to six places apart, bear a mark; all queries ask for the nearest one before.
SymbolLearnerOptions ask_nearest_mark(const RowLengths& lengths);

// Six words stand somewhere before the queries, the other places are empty; a query names a word.
SymbolLearnerOptions ask_scattered_words(const RowLengths& lengths);

// Different words in any order, each with a sign; every place asks for the sign of a word and how
// far ahead it stands, -far, ..., far: one answer for each pair of these.
SymbolLearnerOptions ask_sign_and_distance(int64_t far);

// Query t of `length` asks for the symbol at a place that only t decides.
SymbolLearnerOptions ask_shuffled(int64_t length);

}  // namespace heed::learn
