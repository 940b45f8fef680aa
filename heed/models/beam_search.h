// Beam search over any step-wise decoder: the best continuations of a batch of sentences.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace heed::models {

struct BeamOptions {
  int64_t beam = 5;             // 1 is greedy
  int64_t n_best = 1;           // at most beam
  double length_penalty = 1.0;  // alpha: score = log p / ((5 + length) / 6)^alpha (Wu 2016)
  int64_t max_length = 100;     // tokens, the end mark included
};

struct Hypothesis {
  std::vector<int64_t> tokens;              // without begin and end marks
  std::vector<std::vector<float>> weights;  // per token and the end mark: attention over the source
  double score = 0;                         // length-normalised log probability, natural logarithm
};

// A model as the search sees it: N rows, each a sentence being written.
class StepDecoder {
 public:
  virtual ~StepDecoder() = default;
  virtual void select(const at::Tensor& rows) = 0;  // [N] int64: row i becomes what row rows[i] was
  struct Step {
    at::Tensor log_probabilities;  // [N,V]
    at::Tensor weights;            // [N,S]; undefined where attention was not asked for
  };
  virtual Step step(const at::Tensor& tokens) = 0;  // [N] int64, the tokens written last
};

struct Marks {
  int64_t begin, end;
  std::vector<int64_t> never;  // ids that are not written: padding, unknown, begin
};

// The decoder starts with one row a sentence. Returns n_best hypotheses a sentence, best first.
std::vector<std::vector<Hypothesis>> beam_search(StepDecoder& decoder, int64_t sentences,
                                                 const Marks& marks, const BeamOptions& options);

}  // namespace heed::models
