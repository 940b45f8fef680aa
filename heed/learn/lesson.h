// The lessons: for each mechanism a planted task, and for some a neighbour that must fail at it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "heed/learn/learner.h"

namespace heed::learn {

struct Lesson {
  std::string name;       // `heed learn NAME`
  std::string mechanism;  // "additive (MLP) attention, Bahdanau 2015"
  std::string page;       // of docs/mechanisms, without ".md"
  std::string task;       // what is asked and where the answer stands, in one sentence
  std::function<std::shared_ptr<Learner>()> make;  // parameters from torch's default generator
  int64_t steps = 600, batch = 64;
  double learning_rate = 3e-3;
  // Of a mechanism that can't do the task: why. Its accuracy must stay under `most_accuracy`.
  std::string cannot = "";
  double most_accuracy = 0.5;

  bool must_fail() const { return !cannot.empty(); }
};

// All, in the order of the pages' index. Each group lives in a file of its own.
std::vector<Lesson> all_lessons();

std::vector<Lesson> score_lessons();         // dot ... content + location
std::vector<Lesson> kernel_lessons();        // kernel regression
std::vector<Lesson> reach_lessons();         // global, local ... top-k
std::vector<Lesson> linear_lessons();        // elu + 1, random features
std::vector<Lesson> position_lessons();      // sinusoidal ... rotary
std::vector<Lesson> multi_head_lessons();    // self, cross, heads, cache
std::vector<Lesson> hierarchical_lessons();  // words, sentences, document
std::vector<Lesson> decoding_lessons();      // sentinel, coverage
std::vector<Lesson> set_lessons();           // pooling, set attention
std::vector<Lesson> channel_lessons();       // squeeze-and-excitation, CBAM
std::vector<Lesson> pixel_lessons();         // non-local, 2-D relative positions
std::vector<Lesson> transformer_lessons();   // encoder and decoder

}  // namespace heed::learn
