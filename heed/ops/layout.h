// Memory order of what the operators read and return; the real and the meta kernels share it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include "heed/core/view.h"

namespace heed {

// Rows must be contiguous; every other stride is passed through. Copies only where they are not.
at::Tensor with_contiguous_rows(const at::Tensor& tensor);

// An empty [B,H,T,width] tensor in the memory order of `like` [B,H,T,*]: token-major, that is
// [B,T,H,width] transposed, where `like` is, so that merging heads afterwards is a view. Of packed
// sequences, always [sum T,H,width].
at::Tensor empty_in_order_of(const at::Tensor& like, const c10::SymInt& width);

// Rows of a [B,H,T,D] tensor, or of packed [sum T,H,D], which have no batch stride.
template <class Pointer>
auto view_of(const at::Tensor& tensor, Pointer* data) {
  const int64_t last = tensor.dim() - 1;
  return last == 3 ? View<Pointer>{data, tensor.stride(0), tensor.stride(1), tensor.stride(2)}
                   : View<Pointer>{data, 0, tensor.stride(1), tensor.stride(0)};
}

template <class Element>
View<const Element> const_view(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return view_of(tensor, static_cast<const Element*>(tensor.const_data_ptr()));
}

template <class Element>
View<Element> mutable_view(const at::Tensor& tensor) {
  return view_of(tensor, static_cast<Element*>(tensor.mutable_data_ptr()));
}

}  // namespace heed
