// The C++ face of the attention operators.
#include "heed/ops/attention.h"

#include "heed/ops/operators.h"

namespace heed {

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options) {
  return std::get<0>(attention_with_lse(q, k, v, options));
}

std::tuple<at::Tensor, at::Tensor> attention_with_lse(const at::Tensor& q, const at::Tensor& k,
                                                      const at::Tensor& v,
                                                      const AttentionOptions& options) {
  return operators::attention({.q = q, .k = k, .v = v}, options);
}

at::Tensor varlen_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& cu_seqlens_q, const at::Tensor& cu_seqlens_k,
                            const AttentionOptions& options) {
  return std::get<0>(varlen_attention_with_lse(q, k, v, cu_seqlens_q, cu_seqlens_k, options));
}

std::tuple<at::Tensor, at::Tensor> varlen_attention_with_lse(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cu_seqlens_q,
    const at::Tensor& cu_seqlens_k, const AttentionOptions& options) {
  return operators::attention(
      {.q = q, .k = k, .v = v, .cu_seqlens_q = cu_seqlens_q, .cu_seqlens_k = cu_seqlens_k},
      options);
}

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options) {
  return operators::attention_weights(q, k, options);
}

std::vector<at::Tensor> attention_stats(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const std::vector<std::string>& want,
                                        const at::Tensor& row_weights,
                                        const AttentionOptions& options) {
  return operators::attention_stats({.q = q, .k = k, .v = v}, want, row_weights, options);
}

at::Tensor attention_gradient_column_sums(const at::Tensor& q, const at::Tensor& k,
                                          const at::Tensor& v, const at::Tensor& out,
                                          const at::Tensor& lse, const at::Tensor& d_out,
                                          const at::Tensor& row_weights,
                                          const AttentionOptions& options) {
  return operators::attention_gradient_column_sums(
      {.q = q, .k = k, .v = v}, {.out = out, .lse = lse, .d_out = d_out}, row_weights, options);
}

}  // namespace heed
