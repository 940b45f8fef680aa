// Checks of attention's arguments; each failure is one line: "[op] argument: expected ..., got
// ...".
#include "heed/ops/checks.h"

#include <c10/core/ScalarType.h>
#include <c10/core/SymBool.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <initializer_list>
#include <sstream>
#include <string>

namespace heed {
namespace {

struct Argument {
  const char* op;
  const char* name;
};

// The one form of every message.
template <class Expected, class Got>
std::string message(Argument argument, const Expected& expected, const Got& got) {
  std::ostringstream text;
  text << '[' << argument.op << "] " << argument.name << ": expected " << expected << ", got "
       << got;
  return text.str();
}

std::string list(c10::SymIntArrayRef sizes) {
  std::ostringstream text;
  const char* separator = "[";
  for (const c10::SymInt& size : sizes) {
    text << separator << size;
    separator = ",";
  }
  if (sizes.empty()) text << '[';
  text << ']';
  return text.str();
}

bool holds(const c10::SymBool& condition) { return condition.expect_true(__FILE__, __LINE__); }

void check_rank(Argument argument, const at::Tensor& tensor, const char* letters, int64_t rank) {
  TORCH_CHECK(tensor.dim() == rank, message(argument, letters, list(tensor.sym_sizes())));
}

void check_shape(Argument argument, const at::Tensor& tensor, const char* letters,
                 std::initializer_list<c10::SymInt> expected) {
  const c10::SymIntArrayRef sizes = tensor.sym_sizes();
  bool same = sizes.size() == expected.size();
  for (size_t i = 0; same && i < sizes.size(); ++i) {
    same = holds(sizes[i].sym_eq(expected.begin()[i]));
  }
  TORCH_CHECK(same, message(argument, std::string(letters) + " = " + list(expected), list(sizes)));
}

std::string name_of(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

void check_dtype(Argument argument, const at::Tensor& tensor, at::ScalarType expected) {
  TORCH_CHECK(
      tensor.scalar_type() == expected,
      message(argument, std::string("dtype ") + name_of(expected), name_of(tensor.scalar_type())));
}

void check_device(Argument argument, const at::Tensor& tensor, const at::Tensor& q) {
  TORCH_CHECK(tensor.device() == q.device(),
              message(argument, "q's device " + q.device().str(), tensor.device().str()));
}

void check_like_query(Argument argument, const at::Tensor& tensor, const at::Tensor& q) {
  TORCH_CHECK(tensor.defined(), message(argument, "a tensor", "None"));
  check_dtype(argument, tensor, q.scalar_type());
  check_device(argument, tensor, q);
}

void check_query(const char* op, const at::Tensor& q) {
  const Argument argument{op, "q"};
  TORCH_CHECK(q.defined(), message(argument, "a tensor", "None"));
  const at::ScalarType type = q.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble,
              message(argument, "dtype float32 or float64 (half precision isn't there yet)",
                      name_of(type)));
  TORCH_CHECK(q.is_cpu() || q.is_meta(), message(argument, "a CPU tensor", q.device().str()));
  check_rank(argument, q, "[B,H,T,D]", 4);
}

void check_heads(const char* op, const SymShape& shape) {
  const bool divide = holds(shape.Hkv.sym_gt(0)) && holds((shape.H % shape.Hkv).sym_eq(0));
  TORCH_CHECK(divide, message({op, "k"}, c10::str("Hkv heads that divide q's H = ", shape.H),
                              c10::str("Hkv = ", shape.Hkv)));
}

void check_options(const char* op, const at::Tensor& q, const SymShape& shape,
                   const AttentionOptions& options) {
  const Argument weight{op, "weight"}, lengths{op, "kv_lengths"};
  if (options.score == Score::kAdditive) {
    TORCH_CHECK(options.weight.defined(), message(weight, "[H,D] for kind 'additive'", "None"));
    check_like_query(weight, options.weight, q);
    check_shape(weight, options.weight, "[H,D]", {shape.H, shape.D});
  } else {
    TORCH_CHECK(!options.weight.defined(),
                message(weight, "None unless kind is 'additive'", "a tensor"));
  }
  if (options.kv_lengths.defined()) {
    check_dtype(lengths, options.kv_lengths, at::kLong);
    check_device(lengths, options.kv_lengths, q);
    check_shape(lengths, options.kv_lengths, "[B]", {shape.B});
  }
}

}  // namespace

Shape SymShape::concrete() const {
  return {.B = B.expect_int(),
          .H = H.expect_int(),
          .Hkv = Hkv.expect_int(),
          .T = T.expect_int(),
          .S = S.expect_int(),
          .D = D.expect_int(),
          .Dv = Dv.expect_int()};
}

AttentionOptions parse_options(const char* op, std::string_view kind,
                               std::optional<std::string_view> causal, std::optional<double> scale,
                               const std::optional<at::Tensor>& weight,
                               const std::optional<at::Tensor>& kv_lengths) {
  AttentionOptions options{.scale = scale};
  TORCH_CHECK(kind == "dot" || kind == "additive",
              message({op, "kind"}, "'dot' or 'additive'", c10::str("'", kind, "'")));
  options.score = kind == "dot" ? Score::kDot : Score::kAdditive;
  if (causal) {
    TORCH_CHECK(
        *causal == "top_left" || *causal == "bottom_right",
        message({op, "causal"}, "None, 'top_left' or 'bottom_right'", c10::str("'", *causal, "'")));
    options.causal = *causal == "top_left" ? Causal::kTopLeft : Causal::kBottomRight;
  }
  if (weight) options.weight = *weight;
  if (kv_lengths) options.kv_lengths = *kv_lengths;
  return options;
}

const char* kind_name(Score score) { return score == Score::kDot ? "dot" : "additive"; }

std::optional<std::string_view> causal_name(Causal causal) {
  switch (causal) {
    case Causal::kNone:
      return std::nullopt;
    case Causal::kTopLeft:
      return "top_left";
    case Causal::kBottomRight:
      return "bottom_right";
  }
  return std::nullopt;
}

SymShape check_scores(const char* op, const at::Tensor& q, const at::Tensor& k,
                      const AttentionOptions& options) {
  check_query(op, q);
  check_like_query({op, "k"}, k, q);
  check_rank({op, "k"}, k, "[B,Hkv,S,D]", 4);
  const SymShape shape{.B = q.sym_size(0),
                       .H = q.sym_size(1),
                       .Hkv = k.sym_size(1),
                       .T = q.sym_size(2),
                       .S = k.sym_size(2),
                       .D = q.sym_size(3),
                       .Dv = 0};
  check_shape({op, "k"}, k, "[B,Hkv,S,D]", {shape.B, shape.Hkv, shape.S, shape.D});
  check_heads(op, shape);
  check_options(op, q, shape, options);
  return shape;
}

SymShape check_inputs(const char* op, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const AttentionOptions& options) {
  SymShape shape = check_scores(op, q, k, options);
  check_like_query({op, "v"}, v, q);
  check_rank({op, "v"}, v, "[B,Hkv,S,Dv]", 4);
  shape.Dv = v.sym_size(3);
  check_shape({op, "v"}, v, "[B,Hkv,S,Dv]", {shape.B, shape.Hkv, shape.S, shape.Dv});
  return shape;
}

void check_gradients(const char* op, const SymShape& shape, const at::Tensor& q,
                     const GradientTensors& tensors) {
  const auto check = [&](const char* name, const at::Tensor& tensor, const char* letters,
                         std::initializer_list<c10::SymInt> expected) {
    check_like_query({op, name}, tensor, q);
    check_shape({op, name}, tensor, letters, expected);
  };
  check("out", tensors.out, "[B,H,T,Dv]", {shape.B, shape.H, shape.T, shape.Dv});
  check("lse", tensors.lse, "[B,H,T]", {shape.B, shape.H, shape.T});
  check("d_out", tensors.d_out, "[B,H,T,Dv]", {shape.B, shape.H, shape.T, shape.Dv});
  if (tensors.d_lse.defined()) {
    check("d_lse", tensors.d_lse, "[B,H,T]", {shape.B, shape.H, shape.T});
  }
}

void check_lengths(const char* op, const at::Tensor& kv_lengths, int64_t S) {
  const at::Tensor lengths = kv_lengths.contiguous();
  for (int64_t b = 0; b < lengths.numel(); ++b) {
    const int64_t length = lengths.const_data_ptr<int64_t>()[b];
    TORCH_CHECK(length >= 0 && length <= S,
                message({op, "kv_lengths"}, "lengths in [0, S = " + std::to_string(S) + "]",
                        std::to_string(length) + " at " + std::to_string(b)));
  }
}

}  // namespace heed
