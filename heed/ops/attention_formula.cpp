// Scores, masks, softmax and values as in heed/core/attention.h, one operation on whole matrices
// after the other.
#include "heed/ops/attention_formula.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "heed/ops/checks.h"
#include "heed/ops/program_formula.h"

namespace heed {
namespace {

using at::Tensor;
using operators::Inputs;

constexpr double kMasked = -std::numeric_limits<double>::infinity();

int64_t size_of(const Tensor& x, int64_t dim) {
  return x.sym_size(dim).guard_int(__FILE__, __LINE__);
}

// A batch of elements, padded where they were packed: their own lengths are [B,1,1,1].
struct Batch {
  Tensor q, k, v;     // [B,H,T,D], [B,Hkv,S,D], [B,Hkv,S,Dv], in `real`
  Tensor own_T = {};  // undefined: all T
  Tensor own_S = {};  // undefined: all S
  at::ScalarType real;

  int64_t B() const { return size_of(q, 0); }
  int64_t H() const { return size_of(q, 1); }
  int64_t Hkv() const { return size_of(k, 1); }
  int64_t T() const { return size_of(q, 2); }
  int64_t S() const { return size_of(k, 2); }
  at::TensorOptions numbers() const { return q.options().dtype(real); }
};

// Masks; undefined: everything is visible.
Tensor both(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() ? a : b;
  return a.logical_and(b);
}

Tensor places(int64_t count, int64_t dims_after, const at::TensorOptions& type) {
  std::vector<int64_t> shape(dims_after + 1, 1);
  shape[0] = count;
  return at::arange(count, type).view(shape);
}

Pairs all_pairs(const Batch& batch) {
  const at::TensorOptions type = batch.numbers();
  return {.b = places(batch.B(), 3, type),
          .h = places(batch.H(), 2, type),
          .t = places(batch.T(), 1, type),
          .s = places(batch.S(), 0, type)};
}

// What causal, window and lengths leave, bool [B,1,T,S] or less.
Tensor band(const Batch& batch, const AttentionOptions& options) {
  const Pairs pairs = all_pairs(batch);
  const Tensor &t = pairs.t, &s = pairs.s;
  const auto own = [&](const Tensor& lengths, int64_t all) {
    return lengths.defined() ? lengths : at::scalar_tensor(all, t.options());
  };
  const bool from_end = options.causal == Causal::kBottomRight;
  const Tensor corner =
      from_end ? t + own(batch.own_S, batch.S()) - own(batch.own_T, batch.T()) : t;  // [..,T,1]
  const auto& [left, right] = options.window;
  Tensor visible;
  if (options.causal != Causal::kNone) visible = s <= corner;
  if (left >= 0) visible = both(visible, s >= corner - left);
  if (right >= 0) visible = both(visible, s <= corner + right);
  if (batch.own_S.defined()) visible = both(visible, s < batch.own_S);
  if (batch.own_T.defined()) visible = both(visible, t < batch.own_T);
  return visible;
}

// 0 in the rows of x [B,heads,n,*] of which `seen` [B,1 or H,n] is false for all heads of the
// group.
Tensor only_seen(const Tensor& x, Tensor seen) {
  const int64_t heads = size_of(x, 1);
  if (size_of(seen, 1) > heads) seen = seen.unflatten(1, {heads, -1}).any(2);
  return at::where(seen.unsqueeze(-1), x, at::scalar_tensor(0, x.options()));
}

void forget_unseen(Batch& batch, const Tensor& visible) {
  if (!visible.defined()) return;
  const Tensor mask =
      visible.expand({visible.dim() < 4 ? 1 : size_of(visible, 0),
                      visible.dim() < 3 ? 1 : size_of(visible, -3), batch.T(), batch.S()});
  batch.q = only_seen(batch.q, mask.any(3));
  batch.k = only_seen(batch.k, mask.any(2));
  batch.v = only_seen(batch.v, mask.any(2));
}

// x [B,Hkv,S,*] for each of H heads.
Tensor for_heads(const Tensor& x, int64_t H) {
  const int64_t Hkv = size_of(x, 1);
  if (Hkv == H) return x;
  return x.unsqueeze(2).expand({-1, -1, H / std::max<int64_t>(Hkv, 1), -1, -1}).flatten(1, 2);
}

Tensor unit(const Tensor& x) {
  return x / at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

// "dot" of programs: the product, scaled, [B,H,T,S].
Tensor products(const Batch& batch, const AttentionOptions& options) {
  const int64_t D = size_of(batch.q, 3);
  Tensor q = batch.q, k = for_heads(batch.k, batch.H());
  switch (options.score) {
    case Score::kNone:
      return at::zeros({batch.B(), batch.H(), batch.T(), batch.S()}, batch.numbers());
    case Score::kAdditive: {
      const Tensor weight = options.weight.to(batch.real).unsqueeze(1).unsqueeze(1);  // [H,1,1,D]
      return options.scale.value_or(1.0) *
             ((q.unsqueeze(3) + k.unsqueeze(2)).tanh() * weight).sum(-1);
    }
    case Score::kDot:
      break;
  }
  if (options.cosine) {
    q = unit(q);
    k = unit(k);
  }
  const double by_root = options.cosine || D == 0 ? 1 : 1 / std::sqrt(static_cast<double>(D));
  return options.scale.value_or(by_root) * at::matmul(q, k.transpose(2, 3));
}

// `pairs` and `dot` with a visible pair in the place of those that are not: there, a program may
// divide by 0, and no derivative of that is to be multiplied by 0.
void stand_in(Pairs& pairs, Tensor& dot, const Tensor& visible) {
  const Tensor all = visible.expand_symint(dot.sym_sizes());
  if (all.sym_numel() == 0) return;
  const Tensor chosen = all.to(at::kByte).flatten().argmax();
  for (Tensor* each : {&pairs.b, &pairs.h, &pairs.t, &pairs.s, &dot}) {
    const Tensor every = each->expand_symint(dot.sym_sizes());
    *each = at::where(all, every, every.detach().flatten().index_select(0, chosen));
  }
}

// Scores [B,H,T,S], -inf where not visible, a program's included.
Tensor masked_scores(Batch& batch, const AttentionOptions& options) {
  Tensor visible = band(batch, options);
  std::optional<ProgramFormula> program;
  if (!options.program.text.empty()) program.emplace(options.program, batch.real);
  Pairs pairs = all_pairs(batch);
  const bool late = program && program->mask_reads_dot();
  if (program && program->has_mask() && !late) visible = both(visible, program->mask(pairs, {}));
  forget_unseen(batch, visible);
  Tensor score = products(batch, options);
  if (late) visible = both(visible, program->mask(pairs, score.detach()));
  const c10::SymDimVector sizes(score.sym_sizes());
  if (program) {
    if (visible.defined()) stand_in(pairs, score, visible);
    score = program->score(pairs, score).expand_symint(sizes);
  }
  return visible.defined() ? score.masked_fill(visible.logical_not(), kMasked) : score;
}

// What the top_k-th largest of a row leaves; it is no function of anything.
Tensor only_top(const Tensor& score, int64_t top_k) {
  const int64_t count = std::min(top_k, size_of(score, 3));
  if (top_k == 0 || count == 0) return score;
  const Tensor found = score.detach();
  const Tensor threshold = std::get<0>(at::topk(found, count)).narrow(-1, count - 1, 1);
  return score.masked_fill(found < threshold, kMasked);
}

// Which weights dropout keeps, bool [B,H,T,S]: those that the kernels keep of equal ones.
Tensor kept(const Batch& batch, const AttentionOptions& options) {
  const int64_t S = batch.S();
  const Tensor any = at::zeros({1, 1, 1, 1}, batch.numbers());
  const Tensor values = at::eye(S, batch.numbers()).expand({batch.B(), 1, S, S});
  const auto [out, lse] =
      operators::attention({.q = any.expand({batch.B(), batch.H(), batch.T(), 1}),
                            .k = any.expand({batch.B(), 1, S, 1}),
                            .v = values},
                           {.score = Score::kNone,
                            .dropout_p = options.dropout_p,
                            .seed = options.seed,
                            .drawn_seed = options.drawn_seed});
  return out > 0;
}

// (out, lse), both in `real`.
std::tuple<Tensor, Tensor> attend(Batch batch, const AttentionOptions& options) {
  const int64_t B = batch.B(), H = batch.H(), T = batch.T(), S = batch.S();
  Tensor score = only_top(masked_scores(batch, options), options.top_k);
  if (options.sinks.defined()) {
    const Tensor sinks = options.sinks.to(batch.real).view({1, H, 1, 1}).expand({B, H, T, 1});
    score = at::cat({score, sinks}, -1);
  }
  const Tensor sees = score.ne(kMasked).any(-1, /*keepdim=*/true);  // [B,H,T,1]
  score = score.masked_fill(sees.logical_not(), 0);  // softmax of nothing would be NaN
  Tensor weights = (score.softmax(-1) * sees).narrow(-1, 0, S);
  if (options.dropout_p > 0) {
    weights = weights * kept(batch, options) / (1 - options.dropout_p);
  }
  const Tensor lse = score.logsumexp(-1).masked_fill(sees.squeeze(-1).logical_not(), kMasked);
  return {at::matmul(weights, for_heads(batch.v, H)), lse};
}

// ---- Packed sequences, as a batch of padded ones

struct Offsets {
  Tensor first;   // [B]
  Tensor length;  // [B]
  int64_t total, longest;

  Offsets(const Tensor& cu_seqlens, int64_t all) : total(all) {
    const Tensor offsets = cu_seqlens.to(at::kLong);
    const int64_t B = size_of(offsets, 0) - 1;
    first = offsets.narrow(0, 0, B);
    length = offsets.narrow(0, 1, B) - first;
    // While torch.compile traces, values are not known: no sequence is longer than all together.
    longest = B == 0 ? 0 : length.max().item().toSymInt().maybe_as_int().value_or(total);
  }

  // x [total,heads,*] -> [B,heads,longest,*]
  Tensor padded(const Tensor& x) const {
    const Tensor row = first.unsqueeze(1) + at::arange(longest, first.options());  // [B,longest]
    return x.index({row.clamp_max(total - 1)}).transpose(1, 2);
  }

  // x [B,longest,...] -> [total,...]
  Tensor packed(const Tensor& x) const {
    const Tensor every = at::arange(length.size(0), first.options());
    const Tensor b = every.repeat_interleave(length, /*dim=*/0, /*output_size=*/total);
    const Tensor place = at::arange(total, first.options()) - first.index_select(0, b);
    return x.index({b, place});
  }

  Tensor own(at::ScalarType real) const { return length.to(real).view({-1, 1, 1, 1}); }
};

std::tuple<Tensor, Tensor> attend_packed(const Inputs& inputs, const AttentionOptions& options,
                                         at::ScalarType real) {
  const Offsets queries(inputs.cu_seqlens_q, size_of(inputs.q, 0));
  const Offsets keys(inputs.cu_seqlens_k, size_of(inputs.k, 0));
  const auto [out, lse] = attend({.q = queries.padded(inputs.q.to(real)),
                                  .k = keys.padded(inputs.k.to(real)),
                                  .v = keys.padded(inputs.v.to(real)),
                                  .own_T = queries.own(real),
                                  .own_S = keys.own(real),
                                  .real = real},
                                 options);
  return {queries.packed(out.transpose(1, 2)), queries.packed(lse.transpose(1, 2)).t()};
}

std::tuple<Tensor, Tensor> attend_batched(const Inputs& inputs, const AttentionOptions& options,
                                          at::ScalarType real) {
  Batch batch{.q = inputs.q.to(real), .k = inputs.k.to(real), .v = inputs.v.to(real), .real = real};
  if (options.kv_lengths.defined()) {
    batch.own_S = options.kv_lengths.to(real).view({-1, 1, 1, 1});
  }
  return attend(std::move(batch), options);
}

}  // namespace

std::tuple<Tensor, Tensor> attention_formula(const Inputs& inputs,
                                             const AttentionOptions& options) {
  const at::ScalarType real = real_type(inputs.q);
  const auto attend_all = inputs.packed() ? attend_packed : attend_batched;
  try {
    const auto [out, lse] = attend_all(inputs, options, real);
    return {out.to(inputs.q.scalar_type()), lse};
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    TORCH_CHECK(what.find("allocate memory") == std::string::npos,
                "[attention] second derivative or forward mode: expected memory for whole matrices "
                "[B,H,T,S], got q ",
                inputs.q.sym_sizes(), " and k ", inputs.k.sym_sizes(),
                "; give fewer queries at a time");
    throw;
  }
}

}  // namespace heed
