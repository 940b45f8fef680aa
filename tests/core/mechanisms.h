// Score programs as people write them, for the tests' case table.
#pragma once

#include "heed/core/program/expression.h"
#include "heed/core/view.h"
#include "tests/core/tables.h"

namespace heed::testing {

enum class Mechanism {
  kNone,  // no program at all
  kAlibi,
  kRelative,  // a bias for each head and distance
  kSoftCap,
  kPrefix,        // keys of the prefix are seen by all, the rest causally
  kDocuments,     // only keys of the query's document
  kBuckets,       // T5: distances in logarithmic buckets
  kNatten,        // neighbours on a 2-D grid
  kMask,          // bool [T,S]
  kFloatMask,     // float [T,S] of 0 and -inf, added
  kBias,          // float [H,T,S]
  kKeyBias,       // float [B,S]
  kTemperature,   // dot times a number for each head
  kLocation,      // the score is a table's, dot is not read
  kGaussian,      // around a learnt centre of each query, with one learnt width
  kWhere,         // where(.., -inf)
  kIndirect,      // a table's element says where to look in the next
  kClippedRows,   // Shaw: a bias for each query and distance, far ones sharing theirs
  kDistanceRows,  // Transformer-XL: a bias for each query and distance, and one for each key
  kPastRows,      // the same of the past alone: hidden keys have no distance
  kPairsOfRows,   // two queries share a row
  kRowsTwice,     // one table at two places
  kRandom,        // random_program.h
};
inline constexpr Mechanism kNamed[] = {
    Mechanism::kAlibi,    Mechanism::kRelative,    Mechanism::kSoftCap,
    Mechanism::kPrefix,   Mechanism::kDocuments,   Mechanism::kBuckets,
    Mechanism::kNatten,   Mechanism::kMask,        Mechanism::kFloatMask,
    Mechanism::kBias,     Mechanism::kKeyBias,     Mechanism::kTemperature,
    Mechanism::kLocation, Mechanism::kGaussian,    Mechanism::kWhere,
    Mechanism::kIndirect, Mechanism::kClippedRows, Mechanism::kDistanceRows,
    Mechanism::kPastRows, Mechanism::kPairsOfRows, Mechanism::kRowsTwice,
};

const char* name_of(Mechanism mechanism);

// Not for kNone.
program::ScoreProgram program_of(Mechanism mechanism, const Shape& shape, Tables& tables,
                                 bool kinks, unsigned seed);

}  // namespace heed::testing
