// torch.ops.heed.linear_attention: schema, checks, CPU and meta kernels, autograd.
#include "heed/ops/linear_attention.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/SymBool.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <initializer_list>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "heed/ops/executor.h"
#include "heed/ops/layout.h"

namespace heed {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

constexpr const char* kForward =
    "linear_attention(Tensor q, Tensor k, Tensor v, *, str feature_map='elu', bool causal=False) "
    "-> Tensor";
constexpr const char* kBackward =
    "linear_attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor d_out, *, "
    "str feature_map='elu', bool causal=False) -> (Tensor d_q, Tensor d_k, Tensor d_v)";

// ---- Checks: each failure is one line, "[op] argument: expected ..., got ...".

class Checks {
 public:
  explicit Checks(const char* op) : op_(op) {}

  void query(const Tensor& q) const {
    const at::ScalarType type = q.scalar_type();
    require(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble,
            "q", "dtype float32, bfloat16, float16 or float64", name_of(type));
    require(q.is_cpu() || q.is_meta(), "q", "a CPU tensor", q.device().str());
    require(q.dim() == 4, "q", "[B,H,T,D]", list(q.sym_sizes()));
  }

  // A [..] tensor in q's dtype and on its device.
  void like(const Tensor& q, const char* name, const Tensor& tensor, const char* letters) const {
    require(tensor.scalar_type() == q.scalar_type(), name, "dtype " + name_of(q.scalar_type()),
            name_of(tensor.scalar_type()));
    require(tensor.device() == q.device(), name, "q's device " + q.device().str(),
            tensor.device().str());
    require(tensor.dim() == 4, name, letters, list(tensor.sym_sizes()));
  }

  void sizes(const char* name, const Tensor& tensor, const char* letters,
             std::initializer_list<c10::SymInt> expected) const {
    bool same = true;
    for (size_t i = 0; same && i < expected.size(); ++i) {
      same = holds(tensor.sym_size(static_cast<int64_t>(i)).sym_eq(expected.begin()[i]));
    }
    require(same, name, std::string(letters) + " = " + list(expected), list(tensor.sym_sizes()));
  }

  void heads(const c10::SymInt& H, const c10::SymInt& Hkv) const {
    const bool divide = holds(Hkv.sym_gt(0)) && holds((H % Hkv).sym_eq(0));
    require(divide, "k", c10::str("Hkv heads that divide q's H = ", H), c10::str("Hkv = ", Hkv));
  }

  FeatureMap feature_map(std::string_view word) const {
    if (word == "elu") return FeatureMap::kElu;
    if (word == "relu") return FeatureMap::kRelu;
    require(word == "exp", "feature_map", "'elu', 'relu' or 'exp'", c10::str("'", word, "'"));
    return FeatureMap::kExp;
  }

 private:
  void require(bool condition, const char* name, const std::string& expected,
               const std::string& got) const {
    TORCH_CHECK(condition, "[", op_, "] ", name, ": expected ", expected, ", got ", got);
  }
  static bool holds(const c10::SymBool& condition) {
    return condition.expect_true(__FILE__, __LINE__);
  }
  static std::string name_of(at::ScalarType type) {
    return std::string(c10::getDtypeNames(type).first);
  }
  static std::string list(c10::SymIntArrayRef sizes) {
    std::ostringstream text;
    const char* separator = "";
    text << '[';
    for (const c10::SymInt& size : sizes) {
      text << separator << size;
      separator = ",";
    }
    text << ']';
    return text.str();
  }

  const char* op_;
};

void check_inputs(const Checks& checks, const Tensor& q, const Tensor& k, const Tensor& v) {
  checks.query(q);
  const c10::SymInt B = q.sym_size(0), H = q.sym_size(1), D = q.sym_size(3);
  checks.like(q, "k", k, "[B,Hkv,S,D]");
  const c10::SymInt Hkv = k.sym_size(1), S = k.sym_size(2);
  checks.sizes("k", k, "[B,Hkv,S,D]", {B, Hkv, S, D});
  checks.heads(H, Hkv);
  checks.like(q, "v", v, "[B,Hkv,S,Dv]");
  checks.sizes("v", v, "[B,Hkv,S,Dv]", {B, Hkv, S, v.sym_size(3)});
}

void check_result(const Checks& checks, const char* name, const Tensor& result, const Tensor& q,
                  const Tensor& v) {
  checks.like(q, name, result, "[B,H,T,Dv]");
  checks.sizes(name, result, "[B,H,T,Dv]",
               {q.sym_size(0), q.sym_size(1), q.sym_size(2), v.sym_size(3)});
}

// ---- Meta and CPU

Tensor empty_out(const Tensor& q, const Tensor& v) { return empty_in_order_of(q, v.sym_size(3)); }
Gradients empty_gradients(const Tensor& q, const Tensor& k, const Tensor& v) {
  return {empty_in_order_of(q, q.sym_size(3)), empty_in_order_of(k, k.sym_size(3)),
          empty_in_order_of(v, v.sym_size(3))};
}

Tensor meta_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
                    bool /*causal*/) {
  const Checks checks("linear_attention");
  checks.feature_map(feature_map);
  check_inputs(checks, q, k, v);
  return empty_out(q, v);
}

Gradients meta_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                        const Tensor& d_out, std::string_view feature_map, bool /*causal*/) {
  const Checks checks("linear_attention_backward");
  checks.feature_map(feature_map);
  check_inputs(checks, q, k, v);
  check_result(checks, "out", out, q, v);
  check_result(checks, "d_out", d_out, q, v);
  return empty_gradients(q, k, v);
}

template <class E>
View<const E> rows_of(const Tensor& tensor) {
  return {static_cast<const E*>(tensor.const_data_ptr()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2)};
}
template <class E>
View<E> mutable_rows_of(const Tensor& tensor) {
  return {static_cast<E*>(tensor.mutable_data_ptr()), tensor.stride(0), tensor.stride(1),
          tensor.stride(2)};
}

// Rows contiguous: what the core reads.
struct Operands {
  Tensor q, k, v;
  LinearAttentionOptions options;

  template <class E>
  LinearAttentionInputs<E> inputs() const {
    return {.shape = {.B = q.size(0),
                      .H = q.size(1),
                      .Hkv = k.size(1),
                      .T = q.size(2),
                      .S = k.size(2),
                      .D = q.size(3),
                      .Dv = v.size(3)},
            .feature_map = options.feature_map,
            .causal = options.causal,
            .q = rows_of<E>(q),
            .k = rows_of<E>(k),
            .v = rows_of<E>(v)};
  }
};

// Calls body(E()) with the element type of `tensor`.
template <class Body>
void with_element(const Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return body(double());
    case at::kBFloat16:
      return body(BFloat16());
    case at::kHalf:
      return body(Float16());
    default:
      return body(float());
  }
}

Tensor cpu_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
                   bool causal) {
  const Checks checks("linear_attention");
  const LinearAttentionOptions options = {checks.feature_map(feature_map), causal};
  check_inputs(checks, q, k, v);
  const Operands operands = {with_contiguous_rows(q), with_contiguous_rows(k),
                             with_contiguous_rows(v), options};
  const Tensor out = empty_out(q, v);
  TorchExecutor executor;
  with_element(q, [&](auto zero) {
    using E = decltype(zero);
    linear_attention_forward(operands.inputs<E>(), mutable_rows_of<E>(out), executor);
  });
  return out;
}

Gradients cpu_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                       const Tensor& d_out, std::string_view feature_map, bool causal) {
  const Checks checks("linear_attention_backward");
  const LinearAttentionOptions options = {checks.feature_map(feature_map), causal};
  check_inputs(checks, q, k, v);
  check_result(checks, "out", out, q, v);
  check_result(checks, "d_out", d_out, q, v);
  const Operands operands = {with_contiguous_rows(q), with_contiguous_rows(k),
                             with_contiguous_rows(v), options};
  const Tensor out_rows = with_contiguous_rows(out), d_out_rows = with_contiguous_rows(d_out);
  const Gradients result = empty_gradients(q, k, v);
  TorchExecutor executor;
  with_element(q, [&](auto zero) {
    using E = decltype(zero);
    const auto& [d_q, d_k, d_v] = result;
    const LinearAttentionGradients<E> gradients = {.out = rows_of<E>(out_rows),
                                                   .d_out = rows_of<E>(d_out_rows),
                                                   .d_q = mutable_rows_of<E>(d_q),
                                                   .d_k = mutable_rows_of<E>(d_k),
                                                   .d_v = mutable_rows_of<E>(d_v)};
    linear_attention_backward(operands.inputs<E>(), gradients, executor);
  });
  return result;
}

// ---- Calls through the dispatcher, and autograd

Tensor call_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::string_view feature_map,
                    bool causal) {
  static const auto call =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("heed::linear_attention", "")
          .typed<Tensor(const Tensor&, const Tensor&, const Tensor&, std::string_view, bool)>();
  return call.call(q, k, v, feature_map, causal);
}

Gradients call_backward(const variable_list& inputs, std::string_view feature_map, bool causal) {
  static const auto call =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("heed::linear_attention_backward", "")
          .typed<Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, std::string_view, bool)>();
  return call.call(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], feature_map, causal);
}

// A forward-mode tangent counts, so that apply() refuses it aloud.
bool differentiates(at::TensorList inputs) {
  for (const Tensor& input : inputs) {
    if (at::GradMode::is_enabled() && input.requires_grad()) return true;
    if (input._fw_grad(/*level=*/0).defined()) return true;
  }
  return false;
}

struct LinearAttentionFunction : torch::autograd::Function<LinearAttentionFunction> {
  static constexpr bool is_traceable = true;

  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::string& feature_map, bool causal) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    Tensor out = call_forward(q, k, v, feature_map, causal);
    ctx->save_for_backward({q, k, v, out});
    ctx->saved_data["feature_map"] = feature_map;
    ctx->saved_data["causal"] = causal;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& d_outputs) {
    variable_list inputs = ctx->get_saved_variables();
    inputs.push_back(d_outputs[0]);
    const std::string feature_map = ctx->saved_data["feature_map"].toStringRef();
    const auto [d_q, d_k, d_v] =
        call_backward(inputs, feature_map, ctx->saved_data["causal"].toBool());
    return {d_q, d_k, d_v, Tensor(), Tensor()};
  }
};

// Without this, torch would only warn about a second derivative and give none.
struct NoSecondDerivative : torch::autograd::Function<NoSecondDerivative> {
  static variable_list forward(AutogradContext*, at::TensorList /*inputs*/,
                               const variable_list& gradients) {
    return gradients;
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "[linear_attention] has no second derivative");
  }
};

Tensor traced_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                      std::string_view feature_map, bool causal) {
  if (differentiates({q, k, v})) {
    return LinearAttentionFunction::apply(q, k, v, std::string(feature_map), causal);
  }
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return call_forward(q, k, v, feature_map, causal);
}

Gradients traced_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                          const Tensor& d_out, std::string_view feature_map, bool causal) {
  const variable_list inputs = {q, k, v, out, d_out};
  Gradients gradients;
  {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradients = call_backward(inputs, feature_map, causal);
  }
  if (!differentiates(inputs)) return gradients;
  const auto [d_q, d_k, d_v] = gradients;
  const variable_list refusing =
      NoSecondDerivative::apply(at::TensorList(inputs), variable_list{d_q, d_k, d_v});
  return {refusing[0], refusing[1], refusing[2]};
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

at::Tensor linear_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const LinearAttentionOptions& options) {
  return call_forward(q, k, v, word_of(options.feature_map), options.causal);
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

TORCH_LIBRARY_IMPL(heed, Autograd, m) {
  m.impl("linear_attention", &heed::traced_forward);
  m.impl("linear_attention_backward", &heed::traced_backward);
}
