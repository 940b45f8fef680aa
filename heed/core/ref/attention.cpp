// The scalar reference, for float and double.
#include "heed/core/ref/attention.h"

#include <cmath>
#include <limits>

#include "heed/core/visible.h"

namespace heed::ref {
namespace {

template <class Real>
constexpr Real kMinusInfinity = -std::numeric_limits<Real>::infinity();

// One query and the keys it sees.
template <class Real>
struct Row {
  const AttentionInputs<Real>& inputs;
  int64_t b, h, t, seen;

  Row(const AttentionInputs<Real>& in, int64_t row_b, int64_t row_h, int64_t row_t)
      : inputs(in), b(row_b), h(row_h), t(row_t), seen(keys_seen(visible_of(in, row_b), row_t)) {}

  int64_t kv_head() const { return h / inputs.shape.group(); }
  const Real* q() const { return inputs.q.row(b, h, t); }
  const Real* k(int64_t s) const { return inputs.k.row(b, kv_head(), s); }
  const Real* v(int64_t s) const { return inputs.v.row(b, kv_head(), s); }
  const Real* weight() const { return inputs.weight + h * inputs.shape.D; }
  int64_t index() const { return (b * inputs.shape.H + h) * inputs.shape.T + t; }  // in [B,H,T]

  Real score(int64_t s) const {
    const Real *query = q(), *key = k(s);
    Real sum = 0;
    if (inputs.score == Score::kDot) {
      for (int64_t d = 0; d < inputs.shape.D; ++d) sum += query[d] * key[d];
    } else {
      for (int64_t d = 0; d < inputs.shape.D; ++d) {
        sum += weight()[d] * std::tanh(query[d] + key[d]);
      }
    }
    return sum * inputs.scale;
  }

  // A row whose every score is -inf counts as one without keys.
  Real log_sum_exp() const {
    Real max = kMinusInfinity<Real>, sum = 0;
    for (int64_t s = 0; s < seen; ++s) {
      const Real x = score(s);
      if (x == kMinusInfinity<Real>) continue;
      if (x > max) {
        sum *= std::exp(max - x);
        max = x;
      }
      sum += std::exp(x - max);
    }
    return sum == 0 ? kMinusInfinity<Real> : max + std::log(sum);
  }

  Real probability(int64_t s, Real lse) const {
    return lse == kMinusInfinity<Real> ? Real(0) : std::exp(score(s) - lse);
  }
};

template <class Real>
void forward_row(const Row<Real>& row, const AttentionOutputs<Real>& outputs) {
  const int64_t Dv = row.inputs.shape.Dv;
  const Real lse = row.log_sum_exp();
  Real* out = outputs.out.row(row.b, row.h, row.t);
  Real* weights = outputs.weights ? outputs.weights.row(row.b, row.h, row.t) : nullptr;
  outputs.lse[row.index()] = lse;
  for (int64_t d = 0; d < Dv; ++d) out[d] = 0;
  for (int64_t s = 0; s < row.seen; ++s) {
    const Real p = row.probability(s, lse);
    const Real* value = row.v(s);
    for (int64_t d = 0; d < Dv; ++d) out[d] += p * value[d];
    if (weights != nullptr) weights[s] = p;
  }
  if (weights != nullptr) {
    for (int64_t s = row.seen; s < row.inputs.shape.S; ++s) weights[s] = 0;
  }
}

template <class Real>
Real product(const Real* a, const Real* b, int64_t n) {
  Real sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Adds d score * (d score / d q, k, weight) for the pair (t, s); `ds` already carries the scale.
template <class Real>
void score_backward(const Row<Real>& row, int64_t s, Real ds, Real* d_q, Real* d_k,
                    Real* d_weight) {
  const Real *query = row.q(), *key = row.k(s);
  for (int64_t d = 0; d < row.inputs.shape.D; ++d) {
    if (row.inputs.score == Score::kDot) {
      d_q[d] += ds * key[d];
      d_k[d] += ds * query[d];
    } else {
      const Real u = std::tanh(query[d] + key[d]);
      const Real g = ds * row.weight()[d] * (1 - u * u);
      d_q[d] += g;
      d_k[d] += g;
      d_weight[d] += ds * u;
    }
  }
}

template <class Real>
void backward_row(const Row<Real>& row, const AttentionGradients<Real>& gradients) {
  const Shape& shape = row.inputs.shape;
  const int64_t kv_head = row.kv_head();
  const Real lse = gradients.lse[row.index()];
  const Real* d_out = gradients.d_out.row(row.b, row.h, row.t);
  Real* d_q = gradients.d_q.row(row.b, row.h, row.t);
  for (int64_t d = 0; d < shape.D; ++d) d_q[d] = 0;
  if (lse == kMinusInfinity<Real>) return;
  Real delta = product(d_out, gradients.out.row(row.b, row.h, row.t), shape.Dv);
  if (gradients.d_lse != nullptr) delta -= gradients.d_lse[row.index()];
  Real* d_weight = gradients.d_weight == nullptr ? nullptr : gradients.d_weight + row.h * shape.D;
  for (int64_t s = 0; s < row.seen; ++s) {
    const Real p = row.probability(s, lse);
    const Real ds = p * (product(d_out, row.v(s), shape.Dv) - delta) * row.inputs.scale;
    Real* d_v = gradients.d_v.row(row.b, kv_head, s);
    for (int64_t d = 0; d < shape.Dv; ++d) d_v[d] += p * d_out[d];
    score_backward(row, s, ds, d_q, gradients.d_k.row(row.b, kv_head, s), d_weight);
  }
}

// Everything that one key head's gradients are made of, in the order b, h, t, s.
template <class Real>
void backward_kv_head(const AttentionInputs<Real>& inputs,
                      const AttentionGradients<Real>& gradients, int64_t kv_head) {
  const Shape& shape = inputs.shape;
  const int64_t first = kv_head * shape.group(), last = first + shape.group();
  if (gradients.d_weight != nullptr) {
    for (int64_t i = first * shape.D; i < last * shape.D; ++i) gradients.d_weight[i] = 0;
  }
  for (int64_t b = 0; b < shape.B; ++b) {
    for (int64_t s = 0; s < shape.S; ++s) {
      Real *d_k = gradients.d_k.row(b, kv_head, s), *d_v = gradients.d_v.row(b, kv_head, s);
      for (int64_t d = 0; d < shape.D; ++d) d_k[d] = 0;
      for (int64_t d = 0; d < shape.Dv; ++d) d_v[d] = 0;
    }
    for (int64_t h = first; h < last; ++h) {
      for (int64_t t = 0; t < shape.T; ++t) backward_row(Row<Real>(inputs, b, h, t), gradients);
    }
  }
}

}  // namespace

template <class Real>
void attention_forward(const AttentionInputs<Real>& inputs, const AttentionOutputs<Real>& outputs,
                       Executor& executor) {
  const Shape& shape = inputs.shape;
  auto head = [&](int64_t index, int) {
    const int64_t b = index / shape.H, h = index % shape.H;
    for (int64_t t = 0; t < shape.T; ++t) forward_row(Row<Real>(inputs, b, h, t), outputs);
  };
  executor.parallel(shape.B * shape.H, head);
}

template <class Real>
void attention_backward(const AttentionInputs<Real>& inputs,
                        const AttentionGradients<Real>& gradients, Executor& executor) {
  auto head = [&](int64_t kv_head, int) { backward_kv_head(inputs, gradients, kv_head); };
  executor.parallel(inputs.shape.Hkv, head);
}

template void attention_forward(const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                Executor&);
template void attention_forward(const AttentionInputs<double>&, const AttentionOutputs<double>&,
                                Executor&);
template void attention_backward(const AttentionInputs<float>&, const AttentionGradients<float>&,
                                 Executor&);
template void attention_backward(const AttentionInputs<double>&, const AttentionGradients<double>&,
                                 Executor&);

}  // namespace heed::ref
