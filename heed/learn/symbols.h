// Tasks over symbols: rows of symbols that ask, rows that are looked at, and what stands there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "heed/learn/learner.h"
#include "heed/nn/attention_output.h"

namespace heed::learn {

inline constexpr int64_t kWidth = 32;  // E of the lessons' models
inline constexpr int64_t kSigns = 8;   // what may stand at a place, unless a task says otherwise

struct Symbols {
  at::Tensor query;         // [B,T] int64, what asks
  at::Tensor keys;          // [B,S] int64, what is looked at
  at::Tensor values;        // [B,S] int64, what standing there says
  at::Tensor answers;       // [B,T] int64, of the values' alphabet
  at::Tensor planted;       // [B,T,S] bool
  at::Tensor lengths = {};  // [B] int64, keys that count; undefined: all
};

// query [B,T,E], keys [B,S,E], values [B,S,E], lengths [B] or undefined
// -> output [B,T,E], weights [B,T,S] where asked for.
using Attend = std::function<nn::AttentionOutput(const at::Tensor& query, const at::Tensor& keys,
                                                 const at::Tensor& values,
                                                 const at::Tensor& lengths, nn::Weights weights)>;

struct SymbolLearnerOptions {
  std::function<Symbols(int64_t batch)> draw;         // from torch's default generator
  int64_t query_symbols, key_symbols, value_symbols;  // sizes of the three alphabets
  int64_t size = kWidth;                              // E
  int64_t positions = 0;  // learnt embeddings of this many places join queries and keys; 0: none
  double spread = 1;      // standard deviation of the embeddings when learning starts
  // Names of symbols for heat maps; empty: the numbers. With a name for values, a column shows
  // both, as in "c:7".
  std::function<std::string(int64_t)> query_name = {}, key_name = {}, value_name = {};
  // What judging draws, as longer rows than any in training; empty: the same.
  std::function<Symbols(int64_t batch)> draw_judged = {};
};

// Embeds the three rows of symbols, lets the mechanism mix the values, reads the answer off the
// mixture. The mechanism alone has to find the place: nothing else lets a query see the keys.
class SymbolLearner : public Learner {
 public:
  // `mechanism` is what `attend` calls: its parameters are learnt too. May be null.
  SymbolLearner(SymbolLearnerOptions options, std::shared_ptr<torch::nn::Module> mechanism,
                Attend attend);

  Answers answer(int64_t batch, Purpose purpose) override;
  Alignment example() override;

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;
};

std::string letter(int64_t symbol);   // a, b, c, ...
std::string capital(int64_t symbol);  // A, B, C, ...
std::string digit(int64_t symbol);    // 0, 1, 2, ...
std::string question(int64_t);        // "?", of whatever asks

// --- Draws ---------------------------------------------------------------------------------------

at::Tensor draw_signs(at::IntArrayRef sizes, int64_t signs = kSigns);  // uniform
// [batch,n], in each row a random order of 0 ... n-1.
at::Tensor draw_orders(int64_t batch, int64_t n);
// [batch,n], in each row n of `words` different words, in any order.
at::Tensor draw_words(int64_t batch, int64_t n, int64_t words);

// --- Tasks ---------------------------------------------------------------------------------------

// Each query's answer is the value at its place [B,T].
Symbols ask_at(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
               const at::Tensor& place);

// Each draws Symbols; symbols are uniform over `symbols` unless said otherwise.

// answers[t] = symbols[t]: a row is written off as it stands. T = S = length.
Symbols draw_copy(int64_t batch, int64_t length, int64_t symbols);
// answers[t] = symbols[length - 1 - t].
Symbols draw_reverse(int64_t batch, int64_t length, int64_t symbols);
// Keys are `length` different words in any order, values any symbols; each query is one of the
// keys' words, in another alphabet (a fixed permutation): the answer is what stands at its word.
Symbols draw_dictionary(int64_t batch, int64_t queries, int64_t length, int64_t words,
                        int64_t symbols);
// Keys are kinds, several of each; a query names a kind: the answer is the value of its first.
Symbols draw_first_of_kind(int64_t batch, int64_t length, int64_t kinds, int64_t symbols);
// One key of each row bears a mark: each of `queries` equal questions asks for its value.
Symbols draw_marked(int64_t batch, int64_t queries, int64_t length, int64_t symbols);
// Query t's answer is the symbol at t - offset (0 where there is none, planted at no place).
Symbols draw_offset(int64_t batch, int64_t length, int64_t offset, int64_t symbols);

}  // namespace heed::learn
