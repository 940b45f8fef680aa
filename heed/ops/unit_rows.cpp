// torch's own derivative of a norm would make 0 * NaN of a masked key that is NaN.
#include "heed/ops/unit_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "heed/ops/checks.h"

namespace heed {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct UnitRows : torch::autograd::Function<UnitRows> {
  static constexpr bool is_traceable = true;

  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    const Tensor norm =
        at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true, real_type(x)).clamp_min(1e-12);
    const Tensor unit = (x / norm).to(x.scalar_type());
    ctx->save_for_backward({unit, norm});
    return unit;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &unit = saved[0], &norm = saved[1], &d_unit = d_outputs[0];
    const Tensor along = (unit * d_unit).sum(-1, /*keepdim=*/true, norm.scalar_type());
    const Tensor d_x = (d_unit - unit * along) / norm;
    const Tensor untouched = d_unit.eq(0).all(-1, /*keepdim=*/true);
    return {d_x.masked_fill(untouched, 0).to(unit.scalar_type())};
  }
};

}  // namespace

Tensor unit_rows(const Tensor& x) { return UnitRows::apply(x); }

}  // namespace heed
