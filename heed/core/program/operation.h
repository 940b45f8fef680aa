// What each operation is called, how it is written and what it does to numbers.
#pragma once

#include "heed/core/program/graph.h"

namespace heed::program {

// How tightly an operator binds, as in Python; kCall: written as name(arguments).
enum class Level { kCall, kCompare, kOr, kAnd, kSum, kProduct, kUnary };

struct Operation {
  const char* name;
  int arity;
  Level level = Level::kCall;
};
const Operation& operation(Op op);
const char* name_of(Type type);

// The operation on numbers, booleans being 0 and 1. `type` is the result's. Not for leaves.
double apply(Op op, Type type, const double* args);

}  // namespace heed::program
