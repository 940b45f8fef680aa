// The error that is the user's to mend: one line saying what, where and what to do. main() prints
// it.
#pragma once

#include <stdexcept>

namespace heed {

struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace heed
