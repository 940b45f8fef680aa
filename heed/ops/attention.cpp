// The C++ face of the attention operators.
#include "heed/ops/attention.h"

#include "heed/ops/operators.h"

namespace heed {

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options) {
  return std::get<0>(operators::attention(q, k, v, options));
}

std::tuple<at::Tensor, at::Tensor> attention_with_lse(const at::Tensor& q, const at::Tensor& k,
                                                      const at::Tensor& v,
                                                      const AttentionOptions& options) {
  return operators::attention(q, k, v, options);
}

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options) {
  return operators::attention_weights(q, k, options);
}

}  // namespace heed
