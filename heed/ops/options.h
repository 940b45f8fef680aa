// The options that every attention operator takes, said once: their schema, how kernels receive
// them, how calls pass them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/OptionalArrayRef.h>

#include <optional>
#include <string_view>
#include <vector>

#include "heed/ops/attention.h"

namespace heed {

inline constexpr const char* kOptionsSchema =
    "str kind='dot', str? causal=None, int[]? window=None, float? scale=None, "
    "Tensor? weight=None, Tensor? kv_lengths=None, Tensor? sinks=None, int? top_k=None, "
    "float dropout_p=0.0, int? seed=None, Tensor? drawn_seed=None, str program='', "
    "Tensor[]? tables=None";

using Tables = std::optional<std::vector<at::Tensor>>;

// The options in the schema's words; parse_options (checks.h) makes AttentionOptions of them.
struct OptionWords {
  std::string_view kind;
  std::optional<std::string_view> causal;
  at::OptionalIntArrayRef window;
  std::optional<double> scale;
  const std::optional<at::Tensor>& weight;
  const std::optional<at::Tensor>& kv_lengths;
  const std::optional<at::Tensor>& sinks;
  std::optional<int64_t> top_k;
  double dropout_p;
  std::optional<int64_t> seed;
  const std::optional<at::Tensor>& drawn_seed;
  std::string_view program;
  const Tables& tables;
};

// body(words, head...) as the dispatcher calls it: the operator's own arguments, then the options.
template <auto body>
struct Kernel;
template <class Result, class... Head, Result (*body)(const OptionWords&, Head...)>
struct Kernel<body> {
  static Result call(Head... head, std::string_view kind, std::optional<std::string_view> causal,
                     at::OptionalIntArrayRef window, std::optional<double> scale,
                     const std::optional<at::Tensor>& weight,
                     const std::optional<at::Tensor>& kv_lengths,
                     const std::optional<at::Tensor>& sinks, std::optional<int64_t> top_k,
                     double dropout_p, std::optional<int64_t> seed,
                     const std::optional<at::Tensor>& drawn_seed, std::string_view program,
                     const Tables& tables) {
    const OptionWords words{.kind = kind,
                            .causal = causal,
                            .window = window,
                            .scale = scale,
                            .weight = weight,
                            .kv_lengths = kv_lengths,
                            .sinks = sinks,
                            .top_k = top_k,
                            .dropout_p = dropout_p,
                            .seed = seed,
                            .drawn_seed = drawn_seed,
                            .program = program,
                            .tables = tables};
    return body(words, static_cast<Head&&>(head)...);
  }
};

inline const char* kind_word(const AttentionOptions& options) {
  if (options.cosine) return "cosine";
  switch (options.score) {
    case Score::kAdditive:
      return "additive";
    case Score::kNone:
      return "none";
    case Score::kDot:
      break;
  }
  return "dot";
}

inline std::optional<std::string_view> causal_word(Causal causal) {
  switch (causal) {
    case Causal::kTopLeft:
      return "top_left";
    case Causal::kBottomRight:
      return "bottom_right";
    case Causal::kNone:
      break;
  }
  return std::nullopt;
}

inline std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

// An operator by its name, called with its own arguments and the options.
template <class Result, class... Head>
class Operator {
 public:
  explicit Operator(const char* name)
      : handle_(c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>()) {}

  Result operator()(const AttentionOptions& options, Head... head) const {
    const int64_t window[] = {options.window.left, options.window.right};
    const bool windowed = options.window.left != -1 || options.window.right != -1;
    const OptionalTensor weight = optional(options.weight), sinks = optional(options.sinks),
                         kv_lengths = optional(options.kv_lengths),
                         drawn_seed = optional(options.drawn_seed);
    const Tables tables = options.program.tables;
    const OptionWords words{
        .kind = kind_word(options),
        .causal = causal_word(options.causal),
        .window = windowed ? at::OptionalIntArrayRef(window) : std::nullopt,
        .scale = options.scale,
        .weight = weight,
        .kv_lengths = kv_lengths,
        .sinks = sinks,
        .top_k = options.top_k != 0 ? std::optional<int64_t>(options.top_k) : std::nullopt,
        .dropout_p = options.dropout_p,
        .seed = options.seed,
        .drawn_seed = drawn_seed,
        .program = options.program.text,
        .tables = tables};
    return (*this)(words, static_cast<Head&&>(head)...);
  }

  Result operator()(const OptionWords& words, Head... head) const {
    return handle_.call(static_cast<Head&&>(head)..., words.kind, words.causal, words.window,
                        words.scale, words.weight, words.kv_lengths, words.sinks, words.top_k,
                        words.dropout_p, words.seed, words.drawn_seed, words.program, words.tables);
  }

 private:
  using OptionalTensor = std::optional<at::Tensor>;
  using Signature = Result(Head..., std::string_view, std::optional<std::string_view>,
                           at::OptionalIntArrayRef, std::optional<double>, const OptionalTensor&,
                           const OptionalTensor&, const OptionalTensor&, std::optional<int64_t>,
                           double, std::optional<int64_t>, const OptionalTensor&, std::string_view,
                           const Tables&);

  c10::TypedOperatorHandle<Signature> handle_;
};

}  // namespace heed
