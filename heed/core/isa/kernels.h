// What a kernel set offers: one table of functions per instruction set, on slices of one head.
//
// Only plain data and static functions here: a kernel file compiled for AVX-512 must not emit a
// shared inline function that the linker could pick for the whole program.
#pragma once

#include <cstdint>

#include "heed/core/attention.h"
#include "heed/core/isa.h"
#include "heed/core/visible.h"

namespace heed {

// Rows of floats, `stride` apart, each contiguous.
struct Rows {
  const float* data;
  int64_t stride;
};
struct MutableRows {
  float* data;
  int64_t stride;
};

// One query head and the keys it attends to.
struct HeadInputs {
  int64_t T, S, D, Dv;
  Score score;
  float scale;
  Visible visible;
  Rows q, k, v;         // [T,D], [S,D], [S,Dv]
  const float* weight;  // [D], additive only
};

struct HeadOutputs {
  MutableRows out;      // [T,Dv]
  float* lse;           // [T]
  MutableRows weights;  // [T,S], or null
};

struct HeadGradients {
  Rows out, d_out;     // [T,Dv]
  const float* lse;    // [T]
  const float* d_lse;  // [T], or null
  MutableRows d_q;     // [T,D], added to
  float* d_weight;     // [D], added to; additive only
};

// Keys [begin, end) and where their gradients go: written whole, by the first head of a group.
struct KeyChunk {
  int64_t begin, end;
  MutableRows d_k, d_v;  // row 0 is key `begin`
  bool first_head;       // writes d_k and d_v; later heads of the group add
  bool last_head;
};

struct KernelSet {
  // Queries that one call of forward takes: a function of the shape only, so that bits are too.
  int64_t (*forward_queries)(const HeadInputs&);
  int64_t (*forward_floats)(const HeadInputs&);  // workspace, 64-byte aligned
  void (*forward)(const HeadInputs&, const HeadOutputs&, int64_t first_query, float* workspace);

  int64_t (*backward_keys)(const HeadInputs&);  // keys of a chunk, likewise
  int64_t (*backward_floats)(const HeadInputs&);
  void (*backward)(const HeadInputs&, const HeadGradients&, const KeyChunk&, float* workspace);
};

const KernelSet* kernels_v2();
const KernelSet* kernels_v3();
const KernelSet* kernels_v4();

}  // namespace heed
