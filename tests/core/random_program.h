// Random score programs out of a small grammar.
#pragma once

#include "heed/core/program/expression.h"
#include "heed/core/view.h"
#include "tests/core/tables.h"

namespace heed::testing {

// kinks: abs, min, max and floor may meet dot and tables of floats; for data whose dots are exact
// in every type, so that all computations take the same side.
program::ScoreProgram random_program(const Shape& shape, Tables& tables, bool kinks, unsigned seed);

}  // namespace heed::testing
