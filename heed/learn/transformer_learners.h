// What learns with a Transformer's blocks: a stack of layers over one row, a decoder that writes.
#pragma once

#include <functional>
#include <memory>

#include "heed/learn/learner.h"
#include "heed/nn/multi_head_attention.h"

namespace heed::learn {

// Each place t >= first of a row asks for answers[t].
struct AskingRow {
  at::Tensor symbols;  // [B,T] int64
  at::Tensor answers;  // [B,T] int64
  at::Tensor planted;  // [B,T,T] bool
  int64_t first = 0;
  at::Tensor notes = {};  // [B,T] int64, a second symbol beside each; undefined: there is none
};

struct RowLearnerOptions {
  std::function<AskingRow(int64_t batch)> draw;
  int64_t symbols, notes = 0, answers;  // sizes of the alphabets
  int64_t layers;
  bool places = false;     // added to the symbols
  bool distances = false;  // known to each layer's attention
  nn::MultiHeadAttentionCall call = {};
  // What a place has seen by way of all layers, the product of their weights (Abnar 2020);
  // otherwise what the last layer looks at.
  bool through_all_layers = false;
};

std::shared_ptr<Learner> row_learner(const RowLearnerOptions& options);

// Entries are a word and its successor each; a decoder writes the chain of successors of a first
// word. Trained on chains that are given; judged by those that it writes, word by word, with its
// cache.
std::shared_ptr<Learner> chain_learner();

}  // namespace heed::learn
