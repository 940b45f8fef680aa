// Positions inside attention: what a module of positions may do to one call of MultiHeadAttention.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <optional>
#include <tuple>

#include "heed/core/program/expression.h"

namespace heed::nn {

// The operands of one call; query t stands at the place offset[b] + t, key s at s.
struct AttentionHeads {
  at::Tensor q;        // [B,H,T,D]
  at::Tensor k;        // [B,Hkv,S,D]
  at::Tensor offset;   // [B] int64; undefined: 0
  double scale;        // of the product of q and k
  bool drops = false;  // whether weights are dropped, so that a row's may not sum to 1
};

// (part, values) -> (out, lse) of the same attention over those of its keys that the rule `part`
// names, none all, with values [B,Hkv,S,*] of any width.
using AttendPart = std::function<std::tuple<at::Tensor, at::Tensor>(
    const std::optional<program::Expression>&, const at::Tensor&)>;

// Each step does nothing unless overridden. A module may be shared by many layers.
class AttentionPositionsImpl : public torch::nn::Module {
 public:
  // x [B,H,T,D], queries or keys whose first row stands at offset [B], turned to its place. Keys
  // come here before they enter a cache, and each once.
  virtual at::Tensor rotate(const at::Tensor& x, const at::Tensor& offset = {});

  // What becomes of a score; may widen heads.q and heads.k.
  virtual program::Expression score_mod(const program::Expression& score, AttentionHeads& heads);

  // values [B,Hkv,S,Dv] -> the output [B,H,T,Dv].
  virtual at::Tensor mix(const AttentionHeads& heads, const at::Tensor& values,
                         const AttendPart& attend);
};

// Places of rows 0 .. length - 1: int64 [T], or [B,T] where each element has its offset.
at::Tensor places_of(const at::Tensor& offset, int64_t length);

// The place of query t inside a program.
program::Expression place_of(const at::Tensor& offset);

}  // namespace heed::nn
