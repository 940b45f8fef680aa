// Checks of one argument.
#include "heed/ops/arguments.h"

#include <c10/core/ScalarType.h>

namespace heed {

std::string list(c10::SymIntArrayRef sizes) {
  std::ostringstream text;
  const char* separator = "[";
  for (const c10::SymInt& size : sizes) {
    text << separator << size;
    separator = ",";
  }
  if (sizes.empty()) text << '[';
  text << ']';
  return text.str();
}

void check_rank(Argument argument, const at::Tensor& tensor, const char* letters, int64_t rank) {
  TORCH_CHECK(tensor.dim() == rank, message(argument, letters, list(tensor.sym_sizes())));
}

void check_shape(Argument argument, const at::Tensor& tensor, const char* letters,
                 std::initializer_list<c10::SymInt> expected) {
  const c10::SymIntArrayRef sizes = tensor.sym_sizes();
  bool same = sizes.size() == expected.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) {
    same = holds(sizes[i].sym_eq(expected.begin()[i]));
  }
  TORCH_CHECK(same, message(argument, std::string(letters) + " = " + list(expected), list(sizes)));
}

std::string name_of(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

void check_dtype(Argument argument, const at::Tensor& tensor, at::ScalarType expected) {
  TORCH_CHECK(
      tensor.scalar_type() == expected,
      message(argument, std::string("dtype ") + name_of(expected), name_of(tensor.scalar_type())));
}

void check_dense(Argument argument, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.layout() == at::kStrided,
              message(argument, "a dense tensor", tensor.layout()));
}

void check_device(Argument argument, const at::Tensor& tensor, const at::Tensor& q) {
  TORCH_CHECK(tensor.device() == q.device(),
              message(argument, "q's device " + q.device().str(), tensor.device().str()));
  check_dense(argument, tensor);
}

void check_tensor(Argument argument, const at::Tensor& tensor, at::ScalarType type,
                  const at::Tensor& q) {
  TORCH_CHECK(tensor.defined(), message(argument, "a tensor", "None"));
  check_dtype(argument, tensor, type);
  check_device(argument, tensor, q);
}

void check_like_query(Argument argument, const at::Tensor& tensor, const at::Tensor& q) {
  check_tensor(argument, tensor, q.scalar_type(), q);
}

}  // namespace heed
