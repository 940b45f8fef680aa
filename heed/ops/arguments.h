// How one argument is checked: each failure is one line, "[op] argument: expected ..., got ...".
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymBool.h>
#include <c10/util/Exception.h>

#include <initializer_list>
#include <sstream>
#include <string>

namespace heed {

struct Argument {
  const char* op;
  const char* name;
};

// The one form of every message.
template <class Expected, class Got>
std::string message(Argument argument, const Expected& expected, const Got& got) {
  std::ostringstream text;
  text << '[' << argument.op << "] " << argument.name << ": expected " << expected << ", got "
       << got;
  return text.str();
}

std::string list(c10::SymIntArrayRef sizes);
std::string name_of(at::ScalarType type);

// Whether a condition on sizes holds; where they are symbolic, it becomes a guard.
inline bool holds(const c10::SymBool& condition) {
  return condition.expect_true(__FILE__, __LINE__);
}

void check_rank(Argument argument, const at::Tensor& tensor, const char* letters, int64_t rank);
void check_shape(Argument argument, const at::Tensor& tensor, const char* letters,
                 std::initializer_list<c10::SymInt> expected);
void check_dtype(Argument argument, const at::Tensor& tensor, at::ScalarType expected);
void check_dense(Argument argument, const at::Tensor& tensor);
// On q's device, and dense.
void check_device(Argument argument, const at::Tensor& tensor, const at::Tensor& q);

// A tensor of this type on q's device; one in q's own type.
void check_tensor(Argument argument, const at::Tensor& tensor, at::ScalarType type,
                  const at::Tensor& q);
void check_like_query(Argument argument, const at::Tensor& tensor, const at::Tensor& q);

}  // namespace heed
