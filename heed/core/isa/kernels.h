// What a kernel set offers: one table of functions per instruction set, on slices of one head.
//
// Only plain data and static functions here: a kernel file compiled for AVX-512 must not emit a
// shared inline function that the linker could pick for the whole program.
#pragma once

#include <cstdint>

#include "heed/core/attention.h"
#include "heed/core/band.h"
#include "heed/core/isa.h"

namespace heed {

namespace program {
struct Bytecode;
struct TableTarget;
}  // namespace program

// Rows of elements (the head's type), `stride` elements apart, each contiguous.
struct Rows {
  const void* data;
  int64_t stride;
};
struct MutableRows {
  void* data;
  int64_t stride;
};
// The same of floats, whatever the head's type.
struct FloatRows {
  float* data;
  int64_t stride;
};

struct DropoutKey {
  uint64_t key;        // of seed, b and h
  uint32_t threshold;  // dropped where the hash is below: p * 2^32; 0: no dropout
  float factor;        // 1 / (1 - p)
};

// Memory that will be touched soon: kernels ask for some of it now and then while they compute,
// since a core that asks for a line when it needs it waits.
struct Ahead {
  struct Lines {
    const char* row;
    int64_t stride, bytes, rows;  // stride and length of a row in bytes
  };
  Lines of[4];
};

// One query head and the keys it attends to.
struct HeadInputs {
  int64_t b, h;
  int64_t T, S, D, Dv;
  Element element;  // of q, k, v, weight, out and gradients: kFloat32, kBFloat16 or kFloat16
  Score score;
  float scale;
  Band band;
  const program::Bytecode* program;  // null: score = dot, no mask but the band
  Rows q, k, v;                      // [T,D], [S,D], [S,Dv]
  const void* weight;                // [D], additive only
  float sink;                        // -inf: none
  const float* threshold;            // [T]: scores below are masked (top-k); null: none
  DropoutKey dropout;
  Ahead* ahead;  // or null
};

// Keys to visit, in rising order; masked: the program's mask has to be evaluated there. They lie
// within what the band lets the queries see.
struct KeySpan {
  int64_t begin, end;
  bool masked;
};
struct KeySpans {
  const KeySpan* data;
  int64_t count;
};

struct HeadOutputs {
  MutableRows out;       // [T,Dv] in the head's type, or null
  float* lse;            // [T]
  FloatRows weights;     // [T,S], or null: visited keys are written, the rest is zero already
  float *entropy, *max;  // [T], each or null
  int64_t top;           // 0: none
  int64_t* top_keys;     // [T,top]
  float* top_weights;    // [T,top]
};

struct HeadGradients {
  Rows out, d_out;                       // [T,Dv] in the head's type
  const float* lse;                      // [T]
  const float* d_lse;                    // [T], or null
  FloatRows d_q;                         // [T,D], added to
  float* d_weight;                       // [D], added to; additive only
  const program::TableTarget* d_tables;  // one a table, added to; null: none wanted
};

// Keys [begin, end) and where their gradients go: written whole, by the first head of a group.
struct KeyChunk {
  int64_t begin, end;
  MutableRows d_k, d_v;  // row 0 is key `begin`; in the head's type
  bool first_head;       // begins new sums; later heads of the group add
  bool last_head;        // writes d_k and d_v
};

// Calls for one head share a workspace: begin, then any number of tiles of queries.
struct KernelSet {
  // Queries that one call of forward takes: a function of the shape only, so that bits are too.
  int64_t (*forward_queries)(const HeadInputs&);
  int64_t (*forward_floats)(const HeadInputs&, int64_t top);  // workspace, 64-byte aligned
  // Queries [t0, t0 + forward_queries) against the spans of keys that any of them may see.
  void (*forward)(const HeadInputs&, const HeadOutputs&, int64_t t0, const KeySpans&,
                  float* workspace);

  int64_t (*backward_keys)(const HeadInputs&);     // keys of a chunk, likewise
  int64_t (*backward_queries)(const HeadInputs&);  // queries of one call
  int64_t (*backward_floats)(const HeadInputs&);
  // For each head of a group in turn: begin, any number of calls, end after the last head. The
  // chunk's sums stay in the workspace meanwhile.
  void (*backward_begin)(const HeadInputs&, const HeadGradients&, const KeyChunk&,
                         float* workspace);
  // Queries [t0, t0 + backward_queries) against those spans, all within the chunk.
  void (*backward)(const HeadInputs&, const HeadGradients&, const KeyChunk&, int64_t t0,
                   const KeySpans&, float* workspace);
  void (*backward_end)(const HeadInputs&, const HeadGradients&, const KeyChunk&, float* workspace);

  // Few queries of neighbouring heads that share keys (decode.cpp): chunks of keys give states,
  // [heads, T, decode_state_floats], which are merged in order and written by decode_finish.
  int64_t decode_queries;                      // the most that T may be
  int64_t (*decode_heads)(const HeadInputs&);  // the most heads of one call
  int64_t (*decode_state_floats)(const HeadInputs&);
  int64_t (*decode_floats)(const HeadInputs&, int64_t heads);  // workspace
  void (*decode)(const HeadInputs* heads, int64_t count, const KeySpans&, float* states,
                 float* workspace);
  void (*decode_merge)(const HeadInputs&, int64_t rows, float* total, const float* part);
  void (*decode_finish)(const HeadInputs&, const HeadOutputs&, float* states);

  // Scores, masked ones -inf, or weights again from lse [T], of queries [t0, t0 + weights_queries)
  // at the span's keys: [keys, weights_stride], a key's queries together.
  int64_t (*weights_queries)(const HeadInputs&);
  int64_t (*weights_stride)(const HeadInputs&);
  int64_t (*weights_floats)(const HeadInputs&);  // workspace
  void (*scores)(const HeadInputs&, int64_t t0, const KeySpan&, float* scores, float* workspace);
  void (*weights)(const HeadInputs&, const float* lse, int64_t t0, const KeySpan&, float* weights,
                  float* workspace);
};

const KernelSet* kernels_v2();
const KernelSet* kernels_v3();
const KernelSet* kernels_v4();
const KernelSet* kernels_v4bf16();

}  // namespace heed
