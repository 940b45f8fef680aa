// torch's own derivative of a norm would make 0 * NaN of a masked key that is NaN.
#include "heed/ops/unit_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>

#include "heed/ops/autograd.h"
#include "heed/ops/checks.h"

namespace heed {
namespace {

using at::Tensor;

Tensor norm_of(const Tensor& x) {
  return at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true, real_type(x)).clamp_min(1e-12);
}

// Below autograd, no operation may return what it was given, as to() does where the type is right.
Tensor formula(const Tensor& x) {
  const Tensor unit = x / norm_of(x);
  return unit.scalar_type() == x.scalar_type() ? unit : unit.to(x.scalar_type());
}

struct UnitRows : torch::autograd::Function<UnitRows> {
  static constexpr bool is_traceable = true;

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    const Tensor saved = ctx->get_saved_variables()[0], &d_unit = d_outputs[0];
    if (!d_unit.defined()) return {Tensor()};
    // A row that is not finite has no finite norm, and a norm takes less than D tests.
    const Tensor untouched = d_unit.eq(0).all(-1, /*keepdim=*/true);
    const Tensor lost = untouched.logical_and(norm_of(saved).isfinite().logical_not());
    const Tensor x = saved.masked_fill(lost, 1), norm = norm_of(x), unit = x / norm;
    const Tensor along = (unit * d_unit).sum(-1, /*keepdim=*/true);
    return {((d_unit - unit * along) / norm).to(x.scalar_type())};
  }
};

}  // namespace

Tensor unit_rows(const Tensor& x) {
  if (has_tangent({x})) return formula(x);
  Tensor unit;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    unit = formula(x);
  }
  if (differentiates({x})) {
    record<UnitRows>({x}, {unit}, [&](AutogradContext* ctx) { ctx->save_for_backward({x}); });
  }
  return unit;
}

}  // namespace heed
