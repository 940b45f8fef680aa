// Makes values cheaper: fewer of pairs, and fewer passes over them.
#pragma once

#include "heed/core/program/values.h"

namespace heed::program {

void fuse(Values& values);

}  // namespace heed::program
