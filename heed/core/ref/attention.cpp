// The scalar reference, for every element type: the specification of what the kernels compute.
#include "heed/core/ref/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "heed/core/band.h"
#include "heed/core/dropout.h"
#include "heed/core/program/bound.h"
#include "heed/core/ref/convert.h"

namespace heed::ref {
namespace {

using program::BoundProgram;
using Pair = BoundProgram::Pair;

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// One query head of one element, and what its queries have in common.
template <class E>
struct Head {
  const AttentionInputs<E>& inputs;
  const Shape& shape;
  const BoundProgram* program;
  int64_t b, h, kv_head;
  Lengths lengths;
  Band band;
  int64_t first_t = 0, first_s = 0;  // rows of query 0 and key 0: a packed sequence starts anywhere
  int64_t first_row;                 // query 0 in [B,H,T], or in [H,total] where packed
  double sink = kMinusInfinity;
  uint64_t dropout;

  Head(const AttentionInputs<E>& in, int64_t head_b, int64_t head_h)
      : inputs(in),
        shape(in.shape),
        program(in.program),
        b(head_b),
        h(head_h),
        kv_head(h / shape.group()),
        lengths(lengths_of(in, b)),
        band(band_of(in, b)),
        first_row((b * shape.H + h) * shape.T),
        dropout(dropout_key(in.dropout.seed, b, h)) {
    const Packing& packing = in.packing;
    if (packing.q_offsets != nullptr) {
      first_t = packing.q_offsets[b];
      first_s = packing.k_offsets[b];
      first_row = h * packing.q_offsets[shape.B] + first_t;
    }
    if (in.sinks != nullptr) sink = to_double(in.sinks[h]);
  }

  // A row of a tensor in the shape of q, of k or of v.
  template <class X>
  X* query_row(const View<X>& view, int64_t t) const {
    return view.row(b, h, first_t + t);
  }
  template <class X>
  X* key_row(const View<X>& view, int64_t s) const {
    return view.row(b, kv_head, first_s + s);
  }
};

template <class E>
double product(const E* x, const E* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to_double(x[i]) * to_double(y[i]);
  return sum;
}

// What the score programs call dot.
template <class E>
double dot(const Head<E>& head, int64_t t, int64_t s) {
  const AttentionInputs<E>& inputs = head.inputs;
  const int64_t D = head.shape.D;
  if (inputs.score == Score::kNone) return 0;
  const E *q = head.query_row(inputs.q, t), *k = head.key_row(inputs.k, s);
  if (inputs.score == Score::kDot) return to_double(inputs.scale) * product(q, k, D);
  double sum = 0;
  const E* weight = inputs.weight + head.h * D;
  for (int64_t d = 0; d < D; ++d) {
    sum += to_double(weight[d]) * std::tanh(to_double(q[d]) + to_double(k[d]));
  }
  return to_double(inputs.scale) * sum;
}

// -inf where the program masks the pair.
template <class E>
double score(const Head<E>& head, int64_t t, int64_t s) {
  if (head.program == nullptr) return dot(head, t, s);
  const Pair pair = {head.b, head.h, t, s, dot(head, t, s), 0};
  if (!head.program->visible(pair)) return kMinusInfinity;
  return head.program->value(head.program->program().score(), pair);
}

// Only keys that fewer than top_k others outdo stay.
void keep_top(int64_t top_k, double* scores, int64_t S) {
  double threshold = std::numeric_limits<double>::infinity();
  for (int64_t s = 0; s < S; ++s) {
    if (scores[s] == kMinusInfinity) continue;
    const auto higher = [&](double other) { return other > scores[s]; };
    if (std::count_if(scores, scores + S, higher) < top_k)
      threshold = std::min(threshold, scores[s]);
  }
  for (int64_t s = 0; s < S; ++s) {
    if (scores[s] < threshold) scores[s] = kMinusInfinity;
  }
}

// scores[s] for all S keys; -inf where masked.
template <class E>
void row_scores(const Head<E>& head, int64_t t, double* scores) {
  std::fill_n(scores, head.shape.S, kMinusInfinity);
  for (int64_t s = first_key(head.band, t); s < end_key(head.band, t); ++s) {
    scores[s] = score(head, t, s);
  }
  if (head.inputs.top_k > 0) keep_top(head.inputs.top_k, scores, head.shape.S);
}

// The sink is one more score. -inf where all are.
double log_sum_exp(const double* scores, int64_t S, double sink) {
  const double max = S == 0 ? sink : std::max(sink, *std::max_element(scores, scores + S));
  const double origin = max == kMinusInfinity ? 0 : max;
  double sum = std::exp(sink - origin);
  for (int64_t s = 0; s < S; ++s) sum += std::exp(scores[s] - origin);
  return origin + std::log(sum);
}

double probability(double x, double lse) { return x == kMinusInfinity ? 0 : std::exp(x - lse); }

// What dropout multiplies a weight by.
template <class E>
double kept(const Head<E>& head, int64_t t, int64_t s) {
  const double p = head.inputs.dropout.p;
  if (p == 0) return 1;
  const uint32_t bits =
      dropout_bits(dropout_query_hash(head.dropout, t), dropout_key_hash(head.dropout, s));
  return bits < dropout_threshold(p) ? 0 : dropout_factor(p);
}

// ---- Forward.

// A weight of 0 keeps its value out, even where that is NaN.
template <class E>
void write_out(const Head<E>& head, const double* weights, E* out) {
  for (int64_t d = 0; d < head.shape.Dv; ++d) {
    double sum = 0;
    for (int64_t s = 0; s < head.shape.S; ++s) {
      if (weights[s] != 0) sum += weights[s] * to_double(head.key_row(head.inputs.v, s)[d]);
    }
    from_double(sum, out[d]);
  }
}

double entropy(const double* p, int64_t S, double of_sink) {
  const auto term = [](double x) { return x == 0 ? 0 : -x * std::log(x); };
  double sum = term(of_sink);
  for (int64_t s = 0; s < S; ++s) sum += term(p[s]);
  return sum;
}

// The `top` largest of p, falling; equal ones in order.
template <class Real>
void write_top(const double* p, int64_t S, int64_t top, int64_t* keys, Real* weights) {
  int64_t last = -1;  // the key found before
  for (int64_t i = 0; i < top; ++i) {
    int64_t best = -1;
    for (int64_t s = 0; s < S; ++s) {
      const bool after = i == 0 || (last >= 0 && (p[s] < p[last] || (p[s] == p[last] && s > last)));
      if (after && p[s] > (best < 0 ? 0 : p[best])) best = s;
    }
    if (keys != nullptr) keys[i] = best;
    if (weights != nullptr) weights[i] = best < 0 ? Real(0) : static_cast<Real>(p[best]);
    last = best;
  }
}

// `scores` is room for S numbers.
template <class E>
void forward_row(const Head<E>& head, int64_t t, const AttentionOutputs<E>& outputs,
                 double* scores) {
  using Real = RealOf<E>;
  const int64_t S = head.shape.S, row = head.first_row + t;
  const RowStatistics<Real>& statistics = outputs.statistics;
  row_scores(head, t, scores);
  const double lse = log_sum_exp(scores, S, head.sink);
  outputs.lse[row] = static_cast<Real>(lse);
  if (statistics.max != nullptr) {
    const double* max = std::max_element(scores, scores + S);
    statistics.max[row] = static_cast<Real>(S == 0 ? kMinusInfinity : *max);
  }
  double* p = scores;
  for (int64_t s = 0; s < S; ++s) p[s] = probability(scores[s], lse);
  if (outputs.weights) {
    Real* weights = head.query_row(outputs.weights, t);
    for (int64_t s = 0; s < S; ++s) weights[s] = static_cast<Real>(p[s]);
  }
  if (statistics.entropy != nullptr) {
    statistics.entropy[row] = static_cast<Real>(entropy(p, S, probability(head.sink, lse)));
  }
  const int64_t top = statistics.top;
  write_top(p, S, top, statistics.top_keys == nullptr ? nullptr : statistics.top_keys + row * top,
            statistics.top_weights == nullptr ? nullptr : statistics.top_weights + row * top);
  if (outputs.out) {
    for (int64_t s = 0; s < S; ++s) {
      if (p[s] != 0) p[s] *= kept(head, t, s);
    }
    write_out(head, p, head.query_row(outputs.out, t));
  }
}

// ---- Backward.

// Sums over the queries, and over the query heads, of one key head.
struct Sums {
  std::vector<double> scores;                 // [S], of one row
  std::vector<double> d_q;                    // [D], of one row
  std::vector<double> d_k, d_v;               // [S,D], [S,Dv], of one element
  std::vector<double> d_weight;               // [group,D]
  std::vector<double> d_sinks;                // [group]
  std::vector<std::vector<double>> d_tables;  // those wanted; the rest is empty

  explicit Sums(const Shape& shape)
      : scores(shape.S),
        d_q(shape.D),
        d_k(shape.S * shape.D),
        d_v(shape.S * shape.Dv),
        d_weight(shape.group() * shape.D),
        d_sinks(shape.group()) {}
};

// Adds what d_dot gives to d_q, d_k and d_weight.
template <class E>
void dot_backward(const Head<E>& head, int64_t t, int64_t s, double d_dot, Sums& sums) {
  const AttentionInputs<E>& inputs = head.inputs;
  const int64_t D = head.shape.D;
  if (inputs.score == Score::kNone) return;
  const E *q = head.query_row(inputs.q, t), *k = head.key_row(inputs.k, s);
  const double d_sum = d_dot * to_double(inputs.scale);
  double* d_k = sums.d_k.data() + s * D;
  if (inputs.score == Score::kDot) {
    for (int64_t d = 0; d < D; ++d) {
      sums.d_q[d] += d_sum * to_double(k[d]);
      d_k[d] += d_sum * to_double(q[d]);
    }
    return;
  }
  const E* weight = inputs.weight + head.h * D;
  double* d_weight = sums.d_weight.data() + head.h % head.shape.group() * D;
  for (int64_t d = 0; d < D; ++d) {
    const double u = std::tanh(to_double(q[d]) + to_double(k[d]));
    const double both = d_sum * to_double(weight[d]) * (1 - u * u);
    sums.d_q[d] += both;
    d_k[d] += both;
    d_weight[d] += d_sum * u;
  }
}

// The program's derivative: adds to d_tables, returns d loss / d dot.
template <class E>
double program_backward(const Head<E>& head, int64_t t, int64_t s, double d_score, Sums& sums) {
  if (head.program == nullptr) return d_score;
  const program::Program& program = head.program->program();
  const Pair pair = {head.b, head.h, t, s, dot(head, t, s), d_score};
  for (const program::TableGradient& part : program.table_gradients()) {
    const int table = program.graph()[part.lookup].table;
    if (sums.d_tables.empty() || sums.d_tables[table].empty()) continue;
    sums.d_tables[table][head.program->offset(part.lookup, pair)] +=
        head.program->value(part.value, pair);
  }
  return program.d_dot() < 0 ? 0 : head.program->value(program.d_dot(), pair);
}

template <class E>
void backward_row(const Head<E>& head, int64_t t, const AttentionGradients<E>& gradients,
                  Sums& sums) {
  const Shape& shape = head.shape;
  const int64_t row = head.first_row + t;
  const double lse = to_double(gradients.lse[row]);
  if (lse == kMinusInfinity) return;
  const E* d_out = head.query_row(gradients.d_out, t);
  // sum_s p[s] d p[s]; d lse / d score[s] is p[s] too.
  double delta = product(d_out, head.query_row(gradients.out, t), shape.Dv);
  if (gradients.d_lse != nullptr) delta -= to_double(gradients.d_lse[row]);
  sums.d_sinks[head.h % shape.group()] -= probability(head.sink, lse) * delta;
  row_scores(head, t, sums.scores.data());
  for (int64_t s = 0; s < shape.S; ++s) {
    const double p = probability(sums.scores[s], lse);
    if (p == 0) continue;
    const double factor = kept(head, t, s);
    double d_p = 0;
    if (factor != 0) {
      d_p = factor * product(d_out, head.key_row(head.inputs.v, s), shape.Dv);
      double* d_v = sums.d_v.data() + s * shape.Dv;
      for (int64_t d = 0; d < shape.Dv; ++d) d_v[d] += factor * p * to_double(d_out[d]);
    }
    dot_backward(head, t, s, program_backward(head, t, s, p * (d_p - delta), sums), sums);
  }
}

template <class To>
void store(const double* from, int64_t n, To* to) {
  for (int64_t i = 0; i < n; ++i) from_double(from[i], to[i]);
}
void zero(std::vector<double>& x) { std::fill(x.begin(), x.end(), 0.0); }

// The query heads of one key head on one element.
template <class E>
void backward_element(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients,
                      int64_t b, int64_t kv_head, Sums& sums) {
  const Shape& shape = inputs.shape;
  const int64_t first = kv_head * shape.group(), last = first + shape.group();
  zero(sums.d_k);
  zero(sums.d_v);
  for (int64_t h = first; h < last; ++h) {
    const Head<E> head(inputs, b, h);
    for (int64_t t = 0; t < head.lengths.T; ++t) {
      zero(sums.d_q);
      backward_row(head, t, gradients, sums);
      if (gradients.d_q) store(sums.d_q.data(), shape.D, head.query_row(gradients.d_q, t));
    }
  }
  const bool packed = inputs.packing.k_offsets != nullptr;
  const int64_t begin = packed ? inputs.packing.k_offsets[b] : 0;
  const int64_t count = packed ? inputs.packing.k_offsets[b + 1] - begin : shape.S;
  for (int64_t s = 0; s < count; ++s) {
    if (gradients.d_k) {
      store(sums.d_k.data() + s * shape.D, shape.D, gradients.d_k.row(b, kv_head, begin + s));
    }
    if (gradients.d_v) {
      store(sums.d_v.data() + s * shape.Dv, shape.Dv, gradients.d_v.row(b, kv_head, begin + s));
    }
  }
}

// Everything that one key head's gradients are made of, in the order b, h, t, s.
template <class E>
void backward_kv_head(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients,
                      int64_t kv_head, Sums& sums) {
  const Shape& shape = inputs.shape;
  const int64_t first = kv_head * shape.group();
  zero(sums.d_weight);
  zero(sums.d_sinks);
  for (int64_t b = 0; b < shape.B; ++b) backward_element(inputs, gradients, b, kv_head, sums);
  if (gradients.d_weight != nullptr) {
    store(sums.d_weight.data(), shape.group() * shape.D, gradients.d_weight + first * shape.D);
  }
  if (gradients.d_sinks != nullptr) {
    store(sums.d_sinks.data(), shape.group(), gradients.d_sinks + first);
  }
}

int64_t elements(const program::TableView& table) {
  int64_t count = 1;
  for (int64_t size : table.sizes) count *= size;
  return count;
}

// Every key head adds to the tables, so they go one after the other.
template <class E>
void backward_with_tables(const AttentionInputs<E>& inputs,
                          const AttentionGradients<E>& gradients) {
  const auto& tables = inputs.program->tables();
  Sums sums(inputs.shape);
  sums.d_tables.resize(tables.size());
  for (std::size_t i = 0; i < tables.size(); ++i) {
    if (gradients.d_tables[i] != nullptr) sums.d_tables[i].resize(elements(tables[i]));
  }
  for (int64_t kv_head = 0; kv_head < inputs.shape.Hkv; ++kv_head) {
    backward_kv_head(inputs, gradients, kv_head, sums);
  }
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const std::vector<double>& sum = sums.d_tables[i];
    store(sum.data(), static_cast<int64_t>(sum.size()), gradients.d_tables[i]);
  }
}

}  // namespace

template <class E>
void attention_forward(const AttentionInputs<E>& inputs, const AttentionOutputs<E>& outputs,
                       Executor& executor) {
  const Shape& shape = inputs.shape;
  std::vector<double> scores(executor.threads() * shape.S);
  auto run_head = [&](int64_t index, int thread) {
    const Head<E> head(inputs, index / shape.H, index % shape.H);
    for (int64_t t = 0; t < head.lengths.T; ++t) {
      forward_row(head, t, outputs, scores.data() + thread * shape.S);
    }
  };
  executor.parallel(shape.B * shape.H, run_head);
}

template <class E>
void attention_backward(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients,
                        Executor& executor) {
  if (inputs.program != nullptr && gradients.d_tables != nullptr) {
    backward_with_tables(inputs, gradients);
    return;
  }
  std::vector<Sums> sums(executor.threads(), Sums(inputs.shape));
  auto run_kv_head = [&](int64_t kv_head, int thread) {
    backward_kv_head(inputs, gradients, kv_head, sums[thread]);
  };
  executor.parallel(inputs.shape.Hkv, run_kv_head);
}

#define HEED_INSTANTIATE(E)                                                                 \
  template void attention_forward(const AttentionInputs<E>&, const AttentionOutputs<E>&,    \
                                  Executor&);                                               \
  template void attention_backward(const AttentionInputs<E>&, const AttentionGradients<E>&, \
                                   Executor&);
HEED_FOR_ELEMENTS(HEED_INSTANTIATE)
#undef HEED_INSTANTIATE

}  // namespace heed::ref
