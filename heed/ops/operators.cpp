// The schemas of torch.ops.heed and typed calls to them.
#include "heed/ops/operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "heed/core/isa.h"
#include "heed/ops/checks.h"
#include "heed/ops/machine.h"

namespace heed {
namespace {

constexpr const char* kAttention =
    "attention(Tensor q, Tensor k, Tensor v, *, str kind='dot', str? causal=None, "
    "float? scale=None, Tensor? weight=None, Tensor? kv_lengths=None) -> (Tensor out, Tensor lse)";

constexpr const char* kAttentionBackward =
    "attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor d_out, "
    "Tensor? d_lse, *, str kind='dot', str? causal=None, float? scale=None, Tensor? weight=None, "
    "Tensor? kv_lengths=None) -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_weight)";

constexpr const char* kAttentionWeights =
    "attention_weights(Tensor q, Tensor k, *, str kind='dot', str? causal=None, "
    "float? scale=None, Tensor? weight=None, Tensor? kv_lengths=None) -> Tensor";

using OptionalName = std::optional<std::string_view>;
using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor optional(const at::Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

namespace operators {

std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionOptions& options) {
  using Signature = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, std::string_view, OptionalName,
      std::optional<double>, const OptionalTensor&, const OptionalTensor&);
  static const auto call = find<Signature>("heed::attention");
  return call.call(q, k, v, kind_name(options.score), causal_name(options.causal), options.scale,
                   optional(options.weight), optional(options.kv_lengths));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attention_backward(
    const BackwardInputs& inputs, const AttentionOptions& options) {
  using Signature = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const at::Tensor&, const OptionalTensor&, std::string_view, OptionalName,
      std::optional<double>, const OptionalTensor&, const OptionalTensor&);
  static const auto call = find<Signature>("heed::attention_backward");
  return call.call(inputs.q, inputs.k, inputs.v, inputs.out, inputs.lse, inputs.d_out,
                   optional(inputs.d_lse), kind_name(options.score), causal_name(options.causal),
                   options.scale, optional(options.weight), optional(options.kv_lengths));
}

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k,
                             const AttentionOptions& options) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, std::string_view, OptionalName,
                               std::optional<double>, const OptionalTensor&, const OptionalTensor&);
  static const auto call = find<Signature>("heed::attention_weights");
  return call.call(q, k, kind_name(options.score), causal_name(options.causal), options.scale,
                   optional(options.weight), optional(options.kv_lengths));
}

}  // namespace operators
}  // namespace heed

TORCH_LIBRARY(heed, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def(heed::kAttention, tags);
  m.def(heed::kAttentionBackward, tags);
  m.def(heed::kAttentionWeights, tags);
  m.def("isa() -> str", [] { return std::string(heed::isa_name(heed::isa())); });
  m.def("isa_problem() -> str?", []() -> std::optional<std::string> {
    const char* problem = heed::isa_problem();
    return problem ? std::optional<std::string>(problem) : std::nullopt;
  });
  m.def("peak_flops(ScalarType dtype) -> float", &heed::peak_flops);
  m.def("read_bandwidth() -> float", &heed::read_bandwidth);
}
