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

at::Tensor empty_lse(const SymShape& shape, const operators::Inputs& inputs) {
  const at::TensorOptions type = inputs.q.options().dtype(real_type(inputs.q));
  if (inputs.packed()) return at::empty_symint({shape.H, shape.T}, type);
  return at::empty_symint({shape.B, shape.H, shape.T}, type);
}

operators::Gradients empty_gradients(const SymShape& shape, const operators::Inputs& inputs,
                                     const AttentionOptions& options,
                                     const std::vector<bool>& wanted_tables,
                                     std::optional<at::ScalarType> summed) {
  const auto gradient_of = [&](const at::Tensor& tensor, bool wanted) {
    if (!wanted) return at::empty({0}, inputs.q.options());
    const at::ScalarType type = summed.value_or(tensor.scalar_type());
    return at::empty_symint(tensor.sym_sizes(), tensor.options().dtype(type));
  };
  operators::Gradients gradients{.d_q = empty_in_order_of(inputs.q, shape.D),
                                 .d_k = empty_in_order_of(inputs.k, shape.D),
                                 .d_v = empty_in_order_of(inputs.v, shape.Dv),
                                 .d_weight = gradient_of(options.weight, options.weight.defined()),
                                 .d_sinks = gradient_of(options.sinks, options.sinks.defined()),
                                 .d_tables = {}};
  for (size_t i = 0; i < options.program.tables.size(); ++i) {
    const bool wanted = i < wanted_tables.size() && wanted_tables[i];
    gradients.d_tables.push_back(gradient_of(options.program.tables[i], wanted));
  }
  return gradients;
}

std::vector<at::Tensor> empty_statistic(const Statistic& statistic, const SymShape& shape,
                                        const at::Tensor& q) {
  const auto& [B, H, Hkv, T, S, D, Dv] = shape;
  const c10::SymInt n = statistic.number;
  const at::TensorOptions real = q.options().dtype(real_type(q));
  switch (statistic.kind) {
    case Statistic::kTop:
      return {at::empty_symint({B, H, T, n}, real.dtype(at::kLong)),
              at::empty_symint({B, H, T, n}, real)};
    case Statistic::kColumnSums:
      return {at::empty_symint({B, H, S}, real)};
    case Statistic::kBlocks:
      return {at::empty_symint({B, H, (T + n - 1) / n, (S + n - 1) / n}, real)};
    case Statistic::kEntropy:
    case Statistic::kMax:
    case Statistic::kDiagonal:
      break;
  }
  return {at::empty_symint({B, H, T}, real)};
}

}  // namespace heed
