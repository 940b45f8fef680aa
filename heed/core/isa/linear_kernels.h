// What an instruction set offers for linear attention: one table of functions, on one key head and
// the query heads that share it.
//
// Every result here has one form: takers[i] = sum over the givers j that i sees of <x_i, y_j> w_j.
// The givers' sum of y_j (x) w_j is a state of fixed size; a block of takers reads the state of all
// givers before it, and the givers beside it one by one.
#pragma once

#include <cstdint>

#include "heed/core/linear_attention.h"

namespace heed {

// Row `i` of head `g` starts at element g * stride_g + i * stride.
struct LinearRows {
  const void* data;
  int64_t stride_g, stride;
};
struct LinearMutableRows {
  void* data;
  int64_t stride_g, stride;
};

struct LinearHead {
  Element element;  // of every tensor
  FeatureMap map;
  bool causal;
  int64_t G, T, S, D, Dv;                // S: keys that some query sees
  LinearRows q, k, v;                    // [G,T,D], [1,S,D], [1,S,Dv]
  LinearRows result, d_out;              // [G,T,Dv]; backward only
  LinearMutableRows out, d_q, d_k, d_v;  // those of the pass
  float *inverse, *d_sum;  // [G,T]: 1 / (row's sum of weights), and the sum's gradient;
                           // from kQueryGradients to kKeyGradients
};

enum class LinearPass {
  kForward,         // queries take, keys give: out
  kQueryGradients,  // the same: d_q
  kKeyGradients,    // keys take, queries give: d_k, d_v; causal blocks run last to first
};
enum class LinearPart { kGive, kTake, kBoth };

// Rows [begin, end): of the givers or takers, or of both where causal.
struct LinearBlock {
  int64_t begin, end;
  const float* frame;  // [padded D] exp only: exponents of the keys before (causal) or of all keys
};

struct LinearKernels {
  int64_t (*block_rows)(const LinearHead&);  // the blocks' size: a function of the shape only
  int64_t (*frame_floats)(const LinearHead&);
  int64_t (*state_floats)(const LinearHead&, LinearPass);
  int64_t (*workspace_floats)(const LinearHead&);  // 64-byte aligned

  // Raises `frame` to the largest exponent of each column of the keys [begin, end).
  void (*raise_frame)(const LinearHead&, int64_t begin, int64_t end, float* frame);
  // A state of zeros is one of no givers. Gives to `state` and, where not null, to `also`.
  void (*run)(const LinearHead&, LinearPass, LinearPart, const LinearBlock&, float* state,
              float* also, float* workspace);
  // state += from, the state of givers that come later in the pass.
  void (*merge)(const LinearHead&, LinearPass, float* state, const float* from);
};

// A frame of no keys: smaller than any exponent, and finite.
constexpr float kLowestFrame = -1e30f;

const LinearKernels* linear_kernels_v2();
const LinearKernels* linear_kernels_v3();
const LinearKernels* linear_kernels_v4();

}  // namespace heed
