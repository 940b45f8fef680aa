// Attention with every score stored, in operations that torch differentiates as often as it likes:
// what second derivatives and forward mode are taken of. A reference: no part of training.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "heed/ops/operators.h"

namespace heed {

// (out, lse) as the operators give them, of inputs and options that were checked; with dropout, a
// seed is among the options. Takes the memory of a few matrices [B,H,T,S]: where there is none, the
// error says so. Keys and queries that nothing sees are not read, whatever they hold.
std::tuple<at::Tensor, at::Tensor> attention_formula(const operators::Inputs& inputs,
                                                     const AttentionOptions& options);

}  // namespace heed
