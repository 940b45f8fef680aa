// Checks of all of an operator's arguments together.
#include "heed/ops/checks.h"

#include <c10/util/StringUtil.h>

#include <charconv>
#include <string>
#include <string_view>

#include "heed/ops/arguments.h"

namespace heed {
namespace {

using operators::Inputs;
using operators::OutputGradients;

// The dimensions' letters in messages.
struct Letters {
  const char *q, *k, *v, *out, *lse;
  int64_t rank;
};
constexpr Letters kBatched{"[B,H,T,D]", "[B,Hkv,S,D]", "[B,Hkv,S,Dv]", "[B,H,T,Dv]", "[B,H,T]", 4};
constexpr Letters kPacked{"[sum T,H,D]",  "[sum S,Hkv,D]", "[sum S,Hkv,Dv]",
                          "[sum T,H,Dv]", "[H,sum T]",     3};

const Letters& letters_of(const Inputs& inputs) { return inputs.packed() ? kPacked : kBatched; }

void check_query(const char* op, const at::Tensor& q, const Letters& letters) {
  const Argument argument{op, "q"};
  TORCH_CHECK(q.defined(), message(argument, "a tensor", "None"));
  const at::ScalarType type = q.scalar_type();
  TORCH_CHECK(
      type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble,
      message(argument, "dtype float32, bfloat16, float16 or float64", name_of(type)));
  TORCH_CHECK(q.is_cpu() || q.is_meta(), message(argument, "a CPU tensor", q.device().str()));
  check_dense(argument, q);
  check_rank(argument, q, letters.q, letters.rank);
}

void check_heads(const char* op, const SymShape& shape) {
  const bool none = TORCH_GUARD_OR_FALSE(shape.Hkv.sym_eq(0));
  const bool divide = none ? holds(shape.H.sym_eq(0)) : holds((shape.H % shape.Hkv).sym_eq(0));
  TORCH_CHECK(divide, message({op, "k"}, c10::str("Hkv heads that divide q's H = ", shape.H),
                              c10::str("Hkv = ", shape.Hkv)));
}

void check_weight(const char* op, const at::Tensor& q, const SymShape& shape,
                  const AttentionOptions& options) {
  const Argument weight{op, "weight"};
  if (options.score == Score::kAdditive) {
    TORCH_CHECK(options.weight.defined(), message(weight, "[H,D] for kind 'additive'", "None"));
    check_like_query(weight, options.weight, q);
    check_shape(weight, options.weight, "[H,D]", {shape.H, shape.D});
  } else {
    TORCH_CHECK(!options.weight.defined(),
                message(weight, "None unless kind is 'additive'", "a tensor"));
  }
}

void check_program(const char* op, const at::Tensor& q, const TensorProgram& program) {
  const Argument tables{op, "tables"};
  TORCH_CHECK(!program.text.empty() || program.tables.empty(),
              message(tables, "none without a program", program.tables.size()));
  for (const at::Tensor& tensor : program.tables) check_device(tables, tensor, q);
}

void check_options(const char* op, const Inputs& inputs, const SymShape& shape,
                   const AttentionOptions& options) {
  const at::Tensor& q = inputs.q;
  check_weight(op, q, shape, options);
  check_program(op, q, options.program);
  if (options.kv_lengths.defined()) {
    const Argument lengths{op, "kv_lengths"};
    TORCH_CHECK(!inputs.packed(), message(lengths, "None with packed sequences", "a tensor"));
    check_tensor(lengths, options.kv_lengths, at::kLong, q);
    check_shape(lengths, options.kv_lengths, "[B]", {shape.B});
  }
  if (options.sinks.defined()) {
    check_like_query({op, "sinks"}, options.sinks, q);
    check_shape({op, "sinks"}, options.sinks, "[H]", {shape.H});
  }
  if (options.drawn_seed.defined()) {
    check_tensor({op, "drawn_seed"}, options.drawn_seed, at::kLong, q);
    check_shape({op, "drawn_seed"}, options.drawn_seed, "[]", {});
  }
}

void check_offsets_like(const char* op, const char* name, const at::Tensor& offsets,
                        const at::Tensor& q) {
  const Argument argument{op, name};
  TORCH_CHECK(offsets.defined(), message(argument, "a tensor", "None"));
  const at::ScalarType type = offsets.scalar_type();
  TORCH_CHECK(type == at::kInt || type == at::kLong,
              message(argument, "dtype int32 or int64", name_of(type)));
  check_device(argument, offsets, q);
  check_rank(argument, offsets, "[B+1]", 1);
  TORCH_CHECK(holds(offsets.sym_size(0).sym_ge(1)),
              message(argument, "[B+1]", list(offsets.sym_sizes())));
}

SymShape packed_shape(const char* op, const Inputs& inputs) {
  const at::Tensor &q = inputs.q, &k = inputs.k;
  check_offsets_like(op, "cu_seqlens_q", inputs.cu_seqlens_q, q);
  check_offsets_like(op, "cu_seqlens_k", inputs.cu_seqlens_k, q);
  const c10::SymInt count = inputs.cu_seqlens_q.sym_size(0);
  check_shape({op, "cu_seqlens_k"}, inputs.cu_seqlens_k, "[B+1]", {count});
  const SymShape shape{.B = count - 1,
                       .H = q.sym_size(1),
                       .Hkv = k.sym_size(1),
                       .T = q.sym_size(0),
                       .S = k.sym_size(0),
                       .D = q.sym_size(2),
                       .Dv = 0};
  check_shape({op, "k"}, k, kPacked.k, {shape.S, shape.Hkv, shape.D});
  return shape;
}

SymShape batched_shape(const char* op, const Inputs& inputs) {
  const at::Tensor &q = inputs.q, &k = inputs.k;
  const SymShape shape{.B = q.sym_size(0),
                       .H = q.sym_size(1),
                       .Hkv = k.sym_size(1),
                       .T = q.sym_size(2),
                       .S = k.sym_size(2),
                       .D = q.sym_size(3),
                       .Dv = 0};
  check_shape({op, "k"}, k, kBatched.k, {shape.B, shape.Hkv, shape.S, shape.D});
  return shape;
}

std::string in_quotes(std::string_view word) { return c10::str("'", word, "'"); }

Score parse_kind(const char* op, std::string_view kind) {
  if (kind == "dot" || kind == "cosine") return Score::kDot;
  if (kind == "additive") return Score::kAdditive;
  TORCH_CHECK(kind == "none",
              message({op, "kind"}, "'dot', 'additive', 'cosine' or 'none'", in_quotes(kind)));
  return Score::kNone;
}

Causal parse_causal(const char* op, std::optional<std::string_view> causal) {
  if (!causal) return Causal::kNone;
  if (*causal == "top_left") return Causal::kTopLeft;
  TORCH_CHECK(*causal == "bottom_right",
              message({op, "causal"}, "None, 'top_left' or 'bottom_right'", in_quotes(*causal)));
  return Causal::kBottomRight;
}

Window parse_window(const char* op, at::OptionalIntArrayRef window) {
  if (!window) return {};
  const at::IntArrayRef sides = *window;
  const bool two = sides.size() == 2 && sides[0] >= -1 && sides[1] >= -1;
  TORCH_CHECK(two,
              message({op, "window"}, "two integers >= -1", list(c10::fromIntArrayRefSlow(sides))));
  return {.left = sides[0], .right = sides[1]};
}

// The whole of `text` as a number that is at least `least`.
bool parse_number(std::string_view text, int64_t least, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= least;
}

bool parse_statistic(std::string_view word, Statistic& statistic) {
  struct Name {
    std::string_view name;
    Statistic::Kind kind;
    int64_t least = 0;
  };
  for (const Name& plain : {Name{"entropy", Statistic::kEntropy}, Name{"max", Statistic::kMax},
                            Name{"column_sums", Statistic::kColumnSums}}) {
    statistic.kind = plain.kind;
    if (word == plain.name) return true;
  }
  for (const Name& numbered :
       {Name{"top:", Statistic::kTop, 1}, Name{"diagonal:", Statistic::kDiagonal, INT64_MIN},
        Name{"blocks:", Statistic::kBlocks, 1}}) {
    statistic.kind = numbered.kind;
    if (!word.starts_with(numbered.name)) continue;
    return parse_number(word.substr(numbered.name.size()), numbered.least, statistic.number);
  }
  return false;
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

at::ScalarType real_type(const at::Tensor& q) {
  return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

AttentionOptions parse_options(const char* op, const OptionWords& words) {
  TORCH_CHECK(!words.top_k || *words.top_k >= 1,
              message({op, "top_k"}, "None or at least 1", *words.top_k));
  TORCH_CHECK(words.dropout_p >= 0 && words.dropout_p < 1,
              message({op, "dropout_p"}, "a probability in [0, 1)", words.dropout_p));
  return {.score = parse_kind(op, words.kind),
          .cosine = words.kind == "cosine",
          .program = {std::string(words.program), words.tables.value_or(std::vector<at::Tensor>())},
          .causal = parse_causal(op, words.causal),
          .window = parse_window(op, words.window),
          .scale = words.scale,
          .weight = words.weight.value_or(at::Tensor()),
          .kv_lengths = words.kv_lengths.value_or(at::Tensor()),
          .sinks = words.sinks.value_or(at::Tensor()),
          .top_k = words.top_k.value_or(0),
          .dropout_p = words.dropout_p,
          .seed = words.seed,
          .drawn_seed = words.drawn_seed.value_or(at::Tensor())};
}

std::vector<Statistic> parse_statistics(const char* op, const std::vector<std::string>& want) {
  std::vector<Statistic> statistics(want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    TORCH_CHECK(parse_statistic(want[i], statistics[i]),
                message({op, "want"},
                        "'entropy', 'max', 'top:n', 'column_sums', 'diagonal:d' or 'blocks:n'",
                        in_quotes(want[i])));
    for (size_t j = 0; j < i; ++j) {
      TORCH_CHECK(
          statistics[i].kind == Statistic::kDiagonal || statistics[i].kind != statistics[j].kind,
          message({op, "want"}, "each at most once, except diagonals",
                  in_quotes(want[j]) + " and " + in_quotes(want[i])));
    }
  }
  return statistics;
}

SymShape check_scores(const char* op, const Inputs& inputs, const AttentionOptions& options) {
  const Letters& letters = letters_of(inputs);
  check_query(op, inputs.q, letters);
  check_like_query({op, "k"}, inputs.k, inputs.q);
  check_rank({op, "k"}, inputs.k, letters.k, letters.rank);
  const SymShape shape = inputs.packed() ? packed_shape(op, inputs) : batched_shape(op, inputs);
  check_heads(op, shape);
  check_options(op, inputs, shape, options);
  return shape;
}

SymShape check_inputs(const char* op, const Inputs& inputs, const AttentionOptions& options) {
  SymShape shape = check_scores(op, inputs, options);
  const Letters& letters = letters_of(inputs);
  const at::Tensor& v = inputs.v;
  check_like_query({op, "v"}, v, inputs.q);
  check_rank({op, "v"}, v, letters.v, letters.rank);
  shape.Dv = v.sym_size(-1);
  if (inputs.packed()) {
    check_shape({op, "v"}, v, letters.v, {shape.S, shape.Hkv, shape.Dv});
  } else {
    check_shape({op, "v"}, v, letters.v, {shape.B, shape.Hkv, shape.S, shape.Dv});
  }
  return shape;
}

void check_out(Argument argument, const at::Tensor& tensor, const SymShape& shape,
               const Inputs& inputs) {
  check_like_query(argument, tensor, inputs.q);
  const char* letters = letters_of(inputs).out;
  if (inputs.packed()) return check_shape(argument, tensor, letters, {shape.T, shape.H, shape.Dv});
  check_shape(argument, tensor, letters, {shape.B, shape.H, shape.T, shape.Dv});
}

void check_lse(Argument argument, const at::Tensor& tensor, const SymShape& shape,
               const Inputs& inputs) {
  check_tensor(argument, tensor, real_type(inputs.q), inputs.q);
  const char* letters = letters_of(inputs).lse;
  if (inputs.packed()) return check_shape(argument, tensor, letters, {shape.H, shape.T});
  check_shape(argument, tensor, letters, {shape.B, shape.H, shape.T});
}

void check_gradients(const char* op, const SymShape& shape, const Inputs& inputs,
                     const AttentionOptions& options, const OutputGradients& gradients) {
  TORCH_CHECK(options.dropout_p == 0 || options.seed || options.drawn_seed.defined(),
              message({op, "seed"}, "the forward's with dropout_p > 0", "None"));
  check_out({op, "out"}, gradients.out, shape, inputs);
  check_lse({op, "lse"}, gradients.lse, shape, inputs);
  check_out({op, "d_out"}, gradients.d_out, shape, inputs);
  if (gradients.d_lse.defined()) check_lse({op, "d_lse"}, gradients.d_lse, shape, inputs);
}

void check_derivative(const char* op, const std::vector<bool>& wanted,
                      const AttentionOptions& options) {
  TORCH_CHECK(!options.cosine, message({op, "kind"}, "'dot' of unit rows", "'cosine'"));
  const std::vector<at::Tensor>& tables = options.program.tables;
  TORCH_CHECK(wanted.empty() || wanted.size() == tables.size(),
              message({op, "wanted_tables"}, c10::str("one for each of ", tables.size(), " tables"),
                      wanted.size()));
  for (size_t i = 0; i < wanted.size(); ++i) {
    TORCH_CHECK(!wanted[i] || tables[i].is_floating_point(),
                message({op, "wanted_tables"}, "floating-point tables",
                        c10::str(name_of(tables[i].scalar_type()), " at ", i)));
  }
}

void check_row_weights(const char* op, const SymShape& shape, const at::Tensor& q,
                       const at::Tensor& row_weights) {
  if (!row_weights.defined()) return;
  check_tensor({op, "row_weights"}, row_weights, real_type(q), q);
  check_shape({op, "row_weights"}, row_weights, kBatched.lse, {shape.B, shape.H, shape.T});
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

void check_offsets(const char* op, const char* name, const at::Tensor& offsets, int64_t total) {
  const int64_t* values = offsets.const_data_ptr<int64_t>();
  const int64_t B = offsets.numel() - 1;
  for (int64_t b = 0; b <= B; ++b) {
    const bool rises = b == 0 ? values[0] == 0 : values[b] >= values[b - 1];
    TORCH_CHECK(rises && (b < B || values[b] == total),
                message({op, name}, "offsets that rise from 0 to " + std::to_string(total),
                        std::to_string(values[b]) + " at " + std::to_string(b)));
  }
}

}  // namespace heed
