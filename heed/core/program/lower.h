// From a program's nodes to values: each in the least space, integer sums of t and s as one, table
// indices as far as may be as steps of the address.
#pragma once

#include "heed/core/program/compile.h"
#include "heed/core/program/values.h"

namespace heed::program {

Values lower_score(const CompileInputs& inputs);
Values lower_mask(const CompileInputs& inputs);
Values lower_gradient(const CompileInputs& inputs);

}  // namespace heed::program
