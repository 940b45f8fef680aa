// Contiguous rows on the way in, the caller's order of heads and tokens on the way out.
#include "heed/ops/layout.h"

#include <ATen/ops/empty.h>
#include <c10/core/SymBool.h>

namespace heed {

at::Tensor with_contiguous_rows(const at::Tensor& tensor) {
  if (tensor.size(-1) <= 1 || tensor.stride(-1) == 1) return tensor;
  return tensor.contiguous();
}

at::Tensor empty_in_order_of(const at::Tensor& like, const c10::SymInt& width) {
  if (like.dim() == 3) {
    return at::empty_symint({like.sym_size(0), like.sym_size(1), width}, like.options());
  }
  const c10::SymInt B = like.sym_size(0), H = like.sym_size(1), T = like.sym_size(2);
  if (TORCH_GUARD_OR_FALSE(like.sym_stride(1).sym_lt(like.sym_stride(2)))) {
    return at::empty_symint({B, T, H, width}, like.options()).transpose(1, 2);
  }
  return at::empty_symint({B, H, T, width}, like.options());
}

}  // namespace heed
