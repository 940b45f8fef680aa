// torch.ops.heed.linear_attention: schema, calls, CPU and meta kernels.
#include "heed/ops/linear_attention.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/StringUtil.h>
#include <torch/library.h>

#include <string_view>
#include <tuple>
#include <vector>

#include "heed/ops/checks.h"
#include "heed/ops/executor.h"
#include "heed/ops/layout.h"
#include "heed/ops/linear_operators.h"
#include "heed/ops/operands.h"

namespace heed {
namespace {

using at::Tensor;
using LinearGradients = std::tuple<Tensor, Tensor, Tensor>;

constexpr const char* kForward =
    "linear_attention(Tensor q, Tensor k, Tensor v, *, str feature_map='elu', bool causal=False) "
    "-> Tensor";
constexpr const char* kBackward =
    "linear_attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor d_out, *, "
    "str feature_map='elu', bool causal=False) -> (Tensor d_q, Tensor d_k, Tensor d_v)";

// ---- Results, allocated when the arguments have been checked: all that meta kernels do

struct Checked {
  SymShape shape;
  LinearAttentionOptions options;
};

Checked checked(const char* op, const operators::Inputs& inputs, std::string_view feature_map,
                bool causal) {
  const LinearAttentionOptions options = {parse_feature_map(op, feature_map), causal};
  return {check_inputs(op, inputs, {}), options};
}

struct ForwardResults {
  Checked checked;
  Tensor out;
};
ForwardResults forward_results(const Tensor& q, const Tensor& k, const Tensor& v,
                               std::string_view feature_map, bool causal) {
  const Checked found = checked("linear_attention", {.q = q, .k = k, .v = v}, feature_map, causal);
  return {found, empty_in_order_of(q, found.shape.Dv)};
}

struct BackwardResults {
  Checked checked;
  LinearGradients gradients;
};
BackwardResults backward_results(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, const Tensor& d_out,
                                 std::string_view feature_map, bool causal) {
  const char* op = "linear_attention_backward";
  const operators::Inputs inputs{.q = q, .k = k, .v = v};
  const Checked found = checked(op, inputs, feature_map, causal);
  check_out({op, "out"}, out, found.shape, inputs);
  check_out({op, "d_out"}, d_out, found.shape, inputs);
  return {found,
          {empty_in_order_of(q, found.shape.D), empty_in_order_of(k, found.shape.D),
           empty_in_order_of(v, found.shape.Dv)}};
}

Tensor meta_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
                    bool causal) {
  return forward_results(q, k, v, feature_map, causal).out;
}

LinearGradients meta_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& d_out, std::string_view feature_map, bool causal) {
  return backward_results(q, k, v, out, d_out, feature_map, causal).gradients;
}

// ---- CPU

// Rows contiguous: what the core reads.
struct Operands {
  Checked checked;
  Tensor q, k, v;

  Operands(const Checked& found, const Tensor& queries, const Tensor& keys, const Tensor& values)
      : checked(found),
        q(with_contiguous_rows(queries)),
        k(with_contiguous_rows(keys)),
        v(with_contiguous_rows(values)) {}

  template <class E>
  LinearAttentionInputs<E> inputs() const {
    return {.shape = checked.shape.concrete(),
            .feature_map = checked.options.feature_map,
            .causal = checked.options.causal,
            .q = const_view<E>(q),
            .k = const_view<E>(k),
            .v = const_view<E>(v)};
  }
};

Tensor cpu_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
                   bool causal) {
  const auto [found, out] = forward_results(q, k, v, feature_map, causal);
  const Operands operands(found, q, k, v);
  TorchExecutor executor;
  for_element(q, [&](auto zero) {
    using E = decltype(zero);
    linear_attention_forward(operands.inputs<E>(), mutable_view<E>(out), executor);
  });
  return out;
}

LinearGradients cpu_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                             const Tensor& d_out, std::string_view feature_map, bool causal) {
  const auto [found, result] = backward_results(q, k, v, out, d_out, feature_map, causal);
  const auto& [d_q, d_k, d_v] = result;
  const Operands operands(found, q, k, v);
  const Tensor out_rows = with_contiguous_rows(out), d_out_rows = with_contiguous_rows(d_out);
  TorchExecutor executor;
  for_element(q, [&](auto zero) {
    using E = decltype(zero);
    const LinearAttentionGradients<E> gradients = {.out = const_view<E>(out_rows),
                                                   .d_out = const_view<E>(d_out_rows),
                                                   .d_q = mutable_view<E>(d_q),
                                                   .d_k = mutable_view<E>(d_k),
                                                   .d_v = mutable_view<E>(d_v)};
    linear_attention_backward(operands.inputs<E>(), gradients, executor);
  });
  return result;
}

std::string_view word_of(FeatureMap map) {
  switch (map) {
    case FeatureMap::kElu:
      return "elu";
    case FeatureMap::kRelu:
      return "relu";
    case FeatureMap::kExp:
      break;
  }
  return "exp";
}

}  // namespace

FeatureMap parse_feature_map(const char* op, std::string_view word) {
  if (word == "elu") return FeatureMap::kElu;
  if (word == "relu") return FeatureMap::kRelu;
  TORCH_CHECK(word == "exp",
              message({op, "feature_map"}, "'elu', 'relu' or 'exp'", c10::str("'", word, "'")));
  return FeatureMap::kExp;
}

namespace operators {

Tensor linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const LinearAttentionOptions& options) {
  static const auto call =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("heed::linear_attention", "")
          .typed<Tensor(const Tensor&, const Tensor&, const Tensor&, std::string_view, bool)>();
  return call.call(q, k, v, word_of(options.feature_map), options.causal);
}

LinearGradients linear_attention_backward(const Tensor& q, const Tensor& k, const Tensor& v,
                                          const Tensor& out, const Tensor& d_out,
                                          const LinearAttentionOptions& options) {
  static const auto call =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("heed::linear_attention_backward", "")
          .typed<LinearGradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                 const Tensor&, std::string_view, bool)>();
  return call.call(q, k, v, out, d_out, word_of(options.feature_map), options.causal);
}

}  // namespace operators

Tensor linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const LinearAttentionOptions& options) {
  return operators::linear_attention(q, k, v, options);
}

}  // namespace heed

TORCH_LIBRARY_FRAGMENT(heed, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def(heed::kForward, tags);
  m.def(heed::kBackward, tags);
}

TORCH_LIBRARY_IMPL(heed, CPU, m) {
  m.impl("linear_attention", &heed::cpu_forward);
  m.impl("linear_attention_backward", &heed::cpu_backward);
}

TORCH_LIBRARY_IMPL(heed, Meta, m) {
  m.impl("linear_attention", &heed::meta_forward);
  m.impl("linear_attention_backward", &heed::meta_backward);
}

// Every device and layout that has no kernels: the checks refuse it, in a line.
TORCH_LIBRARY_IMPL(heed, CompositeExplicitAutograd, m) {
  m.impl("linear_attention", &heed::meta_forward);
  m.impl("linear_attention_backward", &heed::meta_backward);
}
