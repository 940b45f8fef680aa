// A planted task and the small model that learns it: the right attention is known beforehand.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "heed/explain/alignment.h"

namespace heed::learn {

// What became of a batch's N questions, each with S places to look at.
struct Answers {
  at::Tensor logits;   // [N,C]
  at::Tensor targets;  // [N] int64
  at::Tensor weights;  // [N,S] attention of each question; undefined while training
  at::Tensor planted;  // [N,S] bool, the places where the answer stands; none: it is no question
                       // of where (its row counts for the accuracy only)
};

enum class Purpose { kTraining, kJudging };  // judging returns the weights

class Learner : public torch::nn::Module {
 public:
  // Draws a batch from torch's default generator and answers it.
  virtual Answers answer(int64_t batch, Purpose purpose) = 0;

  // One example of judging, with its tokens: what heat maps show.
  virtual Alignment example() = 0;
};

// One example: labels of what is looked at [S] and of what asks [T], weights [T,S], and planted
// [T,S] bool where the answers stand.
Alignment shown(std::vector<std::string> source, std::vector<std::string> target,
                const at::Tensor& weights, const at::Tensor& planted);

}  // namespace heed::learn
