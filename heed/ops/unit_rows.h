// Rows divided by their norms, for cosine scores; differentiable.
#pragma once

#include <ATen/core/Tensor.h>

namespace heed {

// x / max(|x|, 1e-12) along the last dimension, reduced in float32 at least. A row whose result
// gets no gradient, a masked key's, gives none even where it is NaN.
at::Tensor unit_rows(const at::Tensor& x);

}  // namespace heed
