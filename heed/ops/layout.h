// Memory order of what the operators read and return; the real and the meta kernels share it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include "heed/core/view.h"

namespace heed {

// Rows must be contiguous; every other stride is passed through. Copies only where they are not.
at::Tensor with_contiguous_rows(const at::Tensor& tensor);

// An empty [B,H,T,width] tensor in the memory order of `like` [B,H,T,*]: token-major, that is
// [B,T,H,width] transposed, where `like` is, so that merging heads afterwards is a view.
at::Tensor empty_in_order_of(const at::Tensor& like, const c10::SymInt& width);

template <class Real>
View<const Real> const_view(const at::Tensor& tensor) {
  return {.data = tensor.const_data_ptr<Real>(),
          .stride_b = tensor.stride(0),
          .stride_h = tensor.stride(1),
          .stride_t = tensor.stride(2)};
}

template <class Real>
View<Real> mutable_view(const at::Tensor& tensor) {
  return {.data = tensor.mutable_data_ptr<Real>(),
          .stride_b = tensor.stride(0),
          .stride_h = tensor.stride(1),
          .stride_t = tensor.stride(2)};
}

}  // namespace heed
