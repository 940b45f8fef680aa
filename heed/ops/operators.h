// torch.ops.heed as C++ calls: every one goes through the dispatcher, so that autograd and tracing
// see it.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <tuple>
#include <vector>

#include "heed/ops/attention.h"

namespace heed {
struct OptionWords;  // options.h
}

namespace heed::operators {

// q [B,H,T,D], k [B,Hkv,S,D], v [B,Hkv,S,Dv]; with cu_seqlens [B+1] packed: q [sum T,H,D],
// k [sum S,Hkv,D], v [sum S,Hkv,Dv]. v is undefined where only the weights are asked for.
struct Inputs {
  at::Tensor q, k, v;
  at::Tensor cu_seqlens_q = {}, cu_seqlens_k = {};

  bool packed() const { return cu_seqlens_q.defined(); }
};

// What the backward needs of the forward, and the gradients that came in.
struct OutputGradients {
  at::Tensor out, lse, d_out;
  at::Tensor d_lse = {};  // may be undefined
};

// d_weight, d_sinks and tables that are not wanted are empty, [0].
struct Gradients {
  at::Tensor d_q, d_k, d_v, d_weight, d_sinks;
  std::vector<at::Tensor> d_tables;
};

// attention or varlen_attention, as the inputs are.
std::tuple<at::Tensor, at::Tensor> attention(const Inputs& inputs, const AttentionOptions& options);
std::tuple<at::Tensor, at::Tensor> attention(const Inputs& inputs, const OptionWords& words);

// Of attention or varlen_attention, as the inputs are. wanted_tables: one for each table.
Gradients attention_backward(const Inputs& inputs, const OutputGradients& gradients,
                             const std::vector<bool>& wanted_tables,
                             const AttentionOptions& options);

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options);

std::vector<at::Tensor> attention_stats(const Inputs& inputs, const std::vector<std::string>& want,
                                        const at::Tensor& row_weights,
                                        const AttentionOptions& options);

at::Tensor attention_gradient_column_sums(const Inputs& inputs, const OutputGradients& gradients,
                                          const at::Tensor& row_weights,
                                          const AttentionOptions& options);

}  // namespace heed::operators
