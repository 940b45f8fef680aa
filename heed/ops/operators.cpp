// The schemas of torch.ops.heed and typed calls to them.
#include "heed/ops/operators.h"

#include <ATen/core/LegacyTypeDispatch.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heed/core/isa.h"
#include "heed/ops/kernels.h"
#include "heed/ops/machine.h"

namespace heed::operators {
namespace {

using at::Tensor;

c10::List<bool> list(const std::vector<bool>& values) {
  c10::List<bool> result;
  for (const bool value : values) result.push_back(value);
  return result;
}

Gradients gradients_of(GradientTuple result) {
  auto& [d_q, d_k, d_v, d_weight, d_sinks, d_tables] = result;
  return {d_q, d_k, d_v, d_weight, d_sinks, std::move(d_tables)};
}

template <class Options>
std::tuple<Tensor, Tensor> attend(const Inputs& inputs, const Options& options) {
  using Outputs = std::tuple<Tensor, Tensor>;
  if (inputs.packed()) {
    static const Operator<Outputs, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&>
        varlen("heed::varlen_attention");
    return varlen(options, inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q, inputs.cu_seqlens_k);
  }
  static const Operator<Outputs, const Tensor&, const Tensor&, const Tensor&> batched(
      "heed::attention");
  return batched(options, inputs.q, inputs.k, inputs.v);
}

}  // namespace

std::tuple<Tensor, Tensor> attention(const Inputs& inputs, const AttentionOptions& options) {
  return attend(inputs, options);
}

std::tuple<Tensor, Tensor> attention(const Inputs& inputs, const OptionWords& words) {
  return attend(inputs, words);
}

Gradients attention_backward(const Inputs& inputs, const OutputGradients& gradients,
                             const std::vector<bool>& wanted_tables,
                             const AttentionOptions& options) {
  const auto& [out, lse, d_out, d_lse] = gradients;
  if (inputs.packed()) {
    static const Operator<GradientTuple, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const OptionalTensor&, const WantedTables&>
        varlen("heed::varlen_attention_backward");
    return gradients_of(varlen(options, inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q,
                               inputs.cu_seqlens_k, out, lse, d_out, optional(d_lse),
                               list(wanted_tables)));
  }
  static const Operator<GradientTuple, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&, const OptionalTensor&, const WantedTables&>
      batched("heed::attention_backward");
  return gradients_of(batched(options, inputs.q, inputs.k, inputs.v, out, lse, d_out,
                              optional(d_lse), list(wanted_tables)));
}

Tensor attention_weights(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  static const Operator<Tensor, const Tensor&, const Tensor&> call("heed::attention_weights");
  return call(options, q, k);
}

std::vector<Tensor> attention_stats(const Inputs& inputs, const std::vector<std::string>& want,
                                    const Tensor& row_weights, const AttentionOptions& options) {
  static const Operator<std::vector<Tensor>, const Tensor&, const Tensor&, const Tensor&,
                        c10::List<std::string>, const OptionalTensor&>
      call("heed::attention_stats");
  return call(options, inputs.q, inputs.k, inputs.v, c10::List<std::string>(want),
              optional(row_weights));
}

Tensor attention_gradient_column_sums(const Inputs& inputs, const OutputGradients& gradients,
                                      const Tensor& row_weights, const AttentionOptions& options) {
  static const Operator<Tensor, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&, const Tensor&, const OptionalTensor&>
      call("heed::attention_gradient_column_sums");
  return call(options, inputs.q, inputs.k, inputs.v, gradients.out, gradients.lse, gradients.d_out,
              optional(row_weights));
}

}  // namespace heed::operators

namespace heed {
namespace {

using at::Tensor;

// Calls of few arguments, for loops that generate a token at a time: a boxed call pays for each.

Tensor dot_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale,
                     std::optional<std::string_view> causal) {
  const OptionalTensor none;
  const Tables no_tables;
  const OptionWords words{.kind = "dot",
                          .causal = causal,
                          .window = std::nullopt,
                          .scale = scale,
                          .weight = none,
                          .kv_lengths = none,
                          .sinks = none,
                          .top_k = std::nullopt,
                          .dropout_p = 0,
                          .seed = std::nullopt,
                          .drawn_seed = none,
                          .program = "",
                          .tables = no_tables};
  return std::get<0>(operators::attention({.q = q, .k = k, .v = v}, words));
}

// What autograd would note of each write and its view is said here at once.
void write_rows(const Tensor& room, const Tensor& rows, int64_t start) {
  TORCH_CHECK(!(at::GradMode::is_enabled() && rows.requires_grad()),
              "[append_rows] rows: expected none that requires a gradient, a cache keeps numbers");
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    room.narrow(2, start, rows.size(2)).copy_(rows);
  }
  if (!room.is_inference()) room.unsafeGetTensorImpl()->bump_version();
}

std::tuple<Tensor, Tensor> append_rows(const Tensor& key_room, const Tensor& value_room,
                                       const Tensor& keys, const Tensor& values, int64_t length) {
  write_rows(key_room, keys, length);
  write_rows(value_room, values, length);
  const int64_t end = length + keys.size(2);
  return {key_room.narrow(2, 0, end), value_room.narrow(2, 0, end)};
}

// The schema of an attention operator: its own arguments, the options, what it returns.
void define(torch::Library& m, const std::string& head, const std::string& result) {
  const std::string schema = head + kOptionsSchema + ") -> " + result;
  m.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
}

}  // namespace
}  // namespace heed

TORCH_LIBRARY(heed, m) {
  const std::string outputs = "(Tensor out, Tensor lse)";
  const std::string gradients =
      "(Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_weight, Tensor d_sinks, Tensor[] d_tables)";
  heed::define(m, "attention(Tensor q, Tensor k, Tensor v, *, ", outputs);
  heed::define(m,
               "varlen_attention(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, "
               "Tensor cu_seqlens_k, *, ",
               outputs);
  heed::define(m,
               "attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
               "Tensor d_out, Tensor? d_lse=None, bool[]? wanted_tables=None, *, ",
               gradients);
  heed::define(m,
               "varlen_attention_backward(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, "
               "Tensor cu_seqlens_k, Tensor out, Tensor lse, Tensor d_out, Tensor? d_lse=None, "
               "bool[]? wanted_tables=None, *, ",
               gradients);
  heed::define(m, "attention_weights(Tensor q, Tensor k, *, ", "Tensor");
  heed::define(m,
               "attention_stats(Tensor q, Tensor k, Tensor v, *, str[] want, "
               "Tensor? row_weights=None, ",
               "Tensor[]");
  heed::define(m,
               "attention_gradient_column_sums(Tensor q, Tensor k, Tensor v, Tensor out, "
               "Tensor lse, Tensor d_out, Tensor? row_weights=None, *, ",
               "Tensor");

  // `attention` with all else left as it is, and its first result.
  m.def(
      "dot_attention(Tensor q, Tensor k, Tensor v, *, float? scale=None, str? causal=None) -> "
      "Tensor",
      &heed::dot_attention, {at::Tag::pt2_compliant_tag});
  // Writes keys [B,Hkv,T,D] and values [B,Hkv,T,Dv] after the first `length` rows of the rooms
  // [B,Hkv,at least length + T,D or Dv]; returns views of all rows up to them.
  m.def(
      "append_rows(Tensor(a!) key_room, Tensor(b!) value_room, Tensor keys, Tensor values, "
      "int length) -> (Tensor(a!), Tensor(b!))",
      &heed::append_rows, {at::Tag::pt2_compliant_tag});

  m.def("isa() -> str", [] { return std::string(heed::isa_name(heed::isa())); });
  m.def("isa_problem() -> str?", []() -> std::optional<std::string> {
    const char* problem = heed::isa_problem();
    return problem ? std::optional<std::string>(problem) : std::nullopt;
  });
  m.def("peak_flops(ScalarType dtype) -> float", &heed::peak_flops);
  m.def("read_bandwidth() -> float", &heed::read_bandwidth);
}
