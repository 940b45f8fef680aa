// A planted task and the small model that learns it: the right attention is known beforehand.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <functional>
#include <string>
#include <vector>

#include "heed/explain/alignment.h"
#include "heed/nn/attention_output.h"

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

inline nn::Weights weights_for(Purpose purpose) {
  return purpose == Purpose::kJudging ? nn::Weights::kReturn : nn::Weights::kNone;
}

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

// weights and planted [n,rows,columns] of n maps beside one another: a0 a1 ... b0 b1 ... across.
Alignment shown_maps(const at::Tensor& weights, const at::Tensor& planted);

// name(0) ... name(count - 1).
std::vector<std::string> labels(int64_t count, const std::function<std::string(int64_t)>& name);

}  // namespace heed::learn
