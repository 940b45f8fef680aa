// What an attention module gives back: the mixture of values and, for those who look, the weights.
#pragma once

#include <ATen/core/Tensor.h>

namespace heed::nn {

struct AttentionOutput {
  at::Tensor output;   // [B,T,Dv]
  at::Tensor weights;  // [B,T,S] (multi-head: [B,H,T,S]); undefined unless asked for; no gradient
};

// Recomputing the weights costs a second pass over the scores, so they are asked for by name.
enum class Weights { kNone, kReturn };

}  // namespace heed::nn
