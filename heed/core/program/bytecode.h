// Programs as the kernels run them: plain data, no code, for files compiled for other processors.
//
// A kernel sees patches of query-key pairs, rows x lanes: in tiles the lanes are queries and the
// rows keys, in row kernels the other way round. A value that varies with less than both is
// computed once for what it varies with: its space. All values are floats; integers are exact up to
// 2^24 (bound programs make sure), booleans are 0 and 1.
#pragma once

#include <cstdint>
#include <memory>

#include "heed/core/element.h"

namespace heed::program {

enum class Space : uint8_t {
  kHead,      // b and h only: a number
  kQuery,     // t
  kKey,       // s
  kDiagonal,  // t - s
  kPair,      // anything else, dot and gradient among it
};
inline constexpr int kSpaces = 5;

// A register: `slot` of its space's. The first slots of kPair are given: the product, d loss / d
// score and the probability.
struct Register {
  Space space;
  int32_t slot;
};
inline constexpr int32_t kDotSlot = 0, kGradientSlot = 1, kWeightSlot = 2, kFirstFreeSlot = 3;

enum class Code : uint8_t {
  // Leaves.
  kConstant,  // value
  kBatch,     // b
  kHead,      // h
  kAffine,    // a + query * t + key * s, an integer
  kLookup,    // a table's element
  // Of one argument.
  kCopy,
  kNeg,
  kAbs,
  kExp,
  kLog,
  kTanh,
  kSigmoid,
  kSqrt,
  kFloor,
  kTruncate,  // an integer: 0 where NaN
  kNot,
  kIsNonzero,
  // Of two.
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kMin,
  kMax,
  kLess,
  kLessEqual,
  kEqual,
  kNotEqual,
  kAnd,
  kOr,
  // Of three.
  kMulAdd,      // a * b + c
  kMulSub,      // a * b - c
  kNegMulAdd,   // c - a * b
  kScaledTanh,  // c * tanh(a * b), b and c of the head
  kWhere,       // a ? b : c
  // Masks: the score, which is the last argument, where ..., else -inf.
  kMaskIf,  // a
  kMaskOr,  // a or b
  kMaskLess,
  kMaskLessEqual,
  kMaskEqual,
  kMaskNotEqual,
  // Gradients.
  kWeighted,     // a where the probability b is not 0, else 0
  kWeightedMul,  // a * b where the probability c is not 0, else 0
  kAddToTable,   // a, in kPair, is added to the gradient of the lookup's element
};

struct Instruction {
  Code code;
  Register to;
  Register args[3];
  int32_t lookup;      // kLookup, kAddToTable
  float value;         // kConstant
  int64_t query, key;  // kAffine
  // The outputs of the gradient that need this: table_bit() of each, kGradientBit. All bits in
  // other sections.
  uint64_t needed;
};
inline constexpr uint64_t kGradientBit = uint64_t{1} << 63;
// Output number `output`; the last ones share a bit.
static inline uint64_t table_bit(int64_t output) {
  return uint64_t{1} << (output < 62 ? output : 62);
}

// One term of an element's offset: `value` elements of stride.
struct Index {
  Register value;
  int64_t size;
  int64_t stride;
  // Whether it may fall outside [0, size) on pairs that are visited but not visible, or is negative
  // and counts from the end: a negative one has size added, and what is still outside is clamped.
  bool guarded;
};

// The element at data + query * t + key * s + the sum of the indices' terms.
struct Lookup {
  const void* data = nullptr;  // null: of a table's gradient, counted from the head's block on
  Element element = Element::kFloat32;
  Space space = Space::kHead;            // of the offset
  bool narrow = true;                    // all offsets are less than 2^31
  int32_t table = -1;                    // of the program
  int32_t output = -1;                   // number of the table output; -1: not of a gradient
  int64_t query = 0, key = 0;            // elements
  int32_t first_index = 0, indices = 0;  // into Bytecode::indices
};

// Where a table's gradient is added to: the sums of a head's block or, where no two pairs meet in
// an element, the whole table at once. Both null: it is not wanted.
struct TableTarget {
  double* sums;
  float* elements;
};

// An array that Bytecode::storage owns: kernels call no function of a shared header.
template <class Item>
struct Slice {
  const Item* data = nullptr;
  int64_t size = 0;
};

// Instructions by space; those of a space follow all that they read.
struct Section {
  Slice<Instruction> code[kSpaces];
};

struct Bytecode {
  Slice<Lookup> lookups;
  Slice<Index> indices;
  Section score;     // kDotSlot becomes the score
  Section mask;      // the score in kDotSlot becomes -inf where masked
  Section gradient;  // from the product in kDotSlot and d loss / d score in kGradientSlot
  // Slots that the sections use in each space, counted together; registers of a space do not
  // overlap between sections, except in kPair, where the given slots are not counted.
  int32_t slots[kSpaces] = {};
  int32_t table_outputs = 0;      // of the gradient
  bool identity = true;           // the score is dot itself
  bool identity_gradient = true;  // kGradientSlot stays what it is, and there are no table outputs
  bool has_mask = false;          // of the part that bands do not say
  std::shared_ptr<const void> storage;
};

}  // namespace heed::program
