// The scalar reference of linear attention, for every element type, in double.
#include "heed/core/ref/linear_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "heed/core/ref/convert.h"

namespace heed::ref {
namespace {

double feature(FeatureMap map, double x) {
  if (std::isnan(x)) return x;
  switch (map) {
    case FeatureMap::kElu:
      return x > 0 ? x + 1 : std::exp(x);
    case FeatureMap::kRelu:
      return std::max(x, 0.0);
    case FeatureMap::kExp:
      return std::exp(x);
  }
  return 0;
}

double slope(FeatureMap map, double x) {
  switch (map) {
    case FeatureMap::kElu:
      return x > 0 ? 1 : std::exp(x);
    case FeatureMap::kRelu:
      return x > 0 ? 1 : 0;
    case FeatureMap::kExp:
      return std::exp(x);
  }
  return 0;
}

template <class E>
double product(const E* x, const E* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to_double(x[i]) * to_double(y[i]);
  return sum;
}

// Rows as doubles, with their features and the features' slopes.
struct Features {
  int64_t D;
  std::vector<double> x, phi, slopes;  // [rows,D]

  template <class E, class RowOf>
  Features(FeatureMap map, int64_t rows, int64_t width, const RowOf& row_of, E) : D(width) {
    for (int64_t r = 0; r < rows; ++r) {
      const E* const row = row_of(r);
      for (int64_t d = 0; d < D; ++d) {
        x.push_back(to_double(row[d]));
        phi.push_back(feature(map, x.back()));
        slopes.push_back(slope(map, x.back()));
      }
    }
  }
};

// One query head and its key head.
template <class E>
struct Head {
  const LinearAttentionInputs<E>& inputs;
  int64_t b, kv_head, h;
  Features q, k;

  Head(const LinearAttentionInputs<E>& in, int64_t head_b, int64_t head_h)
      : inputs(in),
        b(head_b),
        kv_head(head_h / in.shape.group()),
        h(head_h),
        q(
            in.feature_map, in.shape.T, in.shape.D, [&](int64_t t) { return in.q.row(b, h, t); },
            E()),
        k(
            in.feature_map, in.shape.S, in.shape.D,
            [&](int64_t s) { return in.k.row(b, kv_head, s); }, E()) {}

  const E* v(int64_t s) const { return inputs.v.row(b, kv_head, s); }
};

// One column's part of a weight, and its derivatives by q and k.
struct Term {
  double value, by_q, by_k;
};

// One query and the keys that it sees.
template <class E>
struct Row {
  const Head<E>& head;
  int64_t t, D, seen;
  double origin = 0;  // exp only: weights are exp(q + k - origin), so that none overflows
  std::vector<double> weights;
  double sum = 0;

  Row(const Head<E>& row_head, int64_t row_t)
      : head(row_head),
        t(row_t),
        D(head.inputs.shape.D),
        seen(head.inputs.causal ? std::min(t + 1, head.inputs.shape.S) : head.inputs.shape.S) {
    if (head.inputs.feature_map == FeatureMap::kExp) origin = largest_exponent();
    for (int64_t s = 0; s < seen; ++s) {
      weights.push_back(0);
      for (int64_t d = 0; d < D; ++d) weights.back() += term(s, d).value;
      sum += weights.back();
    }
  }

  double exponent(int64_t s, int64_t d) const { return head.q.x[t * D + d] + head.k.x[s * D + d]; }
  double largest_exponent() const {
    double most = -std::numeric_limits<double>::infinity();
    for (int64_t s = 0; s < seen; ++s) {
      for (int64_t d = 0; d < D; ++d) most = std::max(most, exponent(s, d));
    }
    return std::isfinite(most) ? most : 0;
  }

  Term term(int64_t s, int64_t d) const {
    if (head.inputs.feature_map == FeatureMap::kExp) {
      const double x = std::exp(exponent(s, d) - origin);
      return {x, x, x};
    }
    const int64_t i = t * D + d, j = s * D + d;
    return {head.q.phi[i] * head.k.phi[j], head.q.slopes[i] * head.k.phi[j],
            head.q.phi[i] * head.k.slopes[j]};
  }
};

template <class E>
void forward_row(const Row<E>& row, int64_t Dv, E* out) {
  std::vector<double> total(static_cast<size_t>(Dv));
  for (int64_t s = 0; s < row.seen && row.sum != 0; ++s) {
    const double p = row.weights[s] / row.sum;
    for (int64_t d = 0; d < Dv; ++d) total[d] += p * to_double(row.head.v(s)[d]);
  }
  for (int64_t d = 0; d < Dv; ++d) out[d] = from_double<E>(total[d]);
}

// Sums for the gradients of one key head.
struct KeySums {
  std::vector<double> d_k, d_v;  // [S,D], [S,Dv]
};

template <class E>
void backward_row(const Row<E>& row, const LinearAttentionGradients<E>& gradients, KeySums& sums) {
  const Head<E>& head = row.head;
  const int64_t D = row.D, Dv = head.inputs.shape.Dv;
  const E* d_out = gradients.d_out.row(head.b, head.h, row.t);
  std::vector<double> d_q(static_cast<size_t>(D));
  const double delta = product(d_out, gradients.out.row(head.b, head.h, row.t), Dv);
  for (int64_t s = 0; s < row.seen && row.sum != 0; ++s) {
    const double p = row.weights[s] / row.sum;
    const double d_weight = (product(d_out, head.v(s), Dv) - delta) / row.sum;
    for (int64_t d = 0; d < Dv; ++d) sums.d_v[s * Dv + d] += p * to_double(d_out[d]);
    for (int64_t d = 0; d < D; ++d) {
      const Term term = row.term(s, d);
      d_q[d] += d_weight * term.by_q;
      sums.d_k[s * D + d] += d_weight * term.by_k;
    }
  }
  E* to = gradients.d_q.row(head.b, head.h, row.t);
  for (int64_t d = 0; d < D; ++d) to[d] = from_double<E>(d_q[d]);
}

}  // namespace

template <class E>
void linear_attention_forward(const LinearAttentionInputs<E>& inputs, const View<E>& out,
                              Executor& executor) {
  const Shape& shape = inputs.shape;
  auto head = [&](int64_t index, int) {
    const Head<E> one(inputs, index / shape.H, index % shape.H);
    for (int64_t t = 0; t < shape.T; ++t) {
      forward_row(Row<E>(one, t), shape.Dv, out.row(one.b, one.h, t));
    }
  };
  executor.parallel(shape.B * shape.H, head);
}

template <class E>
void linear_attention_backward(const LinearAttentionInputs<E>& inputs,
                               const LinearAttentionGradients<E>& gradients, Executor& executor) {
  const Shape& shape = inputs.shape;
  auto head = [&](int64_t index, int) {
    const int64_t b = index / shape.Hkv, kv_head = index % shape.Hkv;
    KeySums sums{std::vector<double>(static_cast<size_t>(shape.S * shape.D)),
                 std::vector<double>(static_cast<size_t>(shape.S * shape.Dv))};
    for (int64_t h = kv_head * shape.group(); h < (kv_head + 1) * shape.group(); ++h) {
      const Head<E> one(inputs, b, h);
      for (int64_t t = 0; t < shape.T; ++t) backward_row(Row<E>(one, t), gradients, sums);
    }
    for (int64_t s = 0; s < shape.S; ++s) {
      E* d_k = gradients.d_k.row(b, kv_head, s);
      E* d_v = gradients.d_v.row(b, kv_head, s);
      for (int64_t d = 0; d < shape.D; ++d) d_k[d] = from_double<E>(sums.d_k[s * shape.D + d]);
      for (int64_t d = 0; d < shape.Dv; ++d) d_v[d] = from_double<E>(sums.d_v[s * shape.Dv + d]);
    }
  };
  executor.parallel(shape.B * shape.Hkv, head);
}

#define HEED_INSTANTIATE(E)                                                               \
  template void linear_attention_forward(const LinearAttentionInputs<E>&, const View<E>&, \
                                         Executor&);                                      \
  template void linear_attention_backward(const LinearAttentionInputs<E>&,                \
                                          const LinearAttentionGradients<E>&, Executor&);
HEED_INSTANTIATE(float)
HEED_INSTANTIATE(BFloat16)
HEED_INSTANTIATE(Float16)
HEED_INSTANTIATE(double)
#undef HEED_INSTANTIATE

}  // namespace heed::ref
