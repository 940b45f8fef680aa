// Sweeps over the weights, a patch of some queries and some keys at a time; sums are added in an
// order that no thread can change, by tasks that own what they write.
#include "heed/core/statistics.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "heed/core/heads.h"
#include "heed/core/isa/kernel_sets.h"
#include "heed/core/ref/attention.h"
#include "heed/core/thresholds.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

constexpr int64_t kKeys = 256;    // of a patch, and of a task that owns columns
constexpr int64_t kQueries = 64;  // more than any patch has

// Weights of queries [t0, t1) at keys [s0, s1): `at(s)` is a key's row of t1 - t0 weights.
struct WeightPatch {
  int64_t t0, t1, s0, s1;
  const float* data;
  int64_t stride;
  const float* at(int64_t s) const { return data + (s - s0) * stride; }
};

// Gives the weights of one head's queries and keys, patch by patch, queries first.
template <class E>
class Sweep {
 public:
  Sweep(const AttentionInputs<E>& inputs, const float* lse, Executor& executor)
      : set_(*kernels_in_use()),
        inputs_(inputs),
        lse_(lse),
        thresholds_(set_, inputs, executor),
        workspace_(executor.threads(),
                   2 * kKeys * kQueries + (inputs.shape.B == 0 ? 0 : floats(set_, inputs))),
        finders_(executor.threads()) {}

  template <class Body>
  void patches(int64_t b, int64_t h, int64_t t_begin, int64_t t_end, int64_t begin, int64_t end,
               int thread, const Body& body) {
    const HeadInputs head = head_inputs(inputs_, b, h, thresholds_.data());
    const int64_t queries = set_.weights_queries(head);
    float* weights = workspace_.part(thread);
    for (int64_t t0 = t_begin; t0 < t_end; t0 += queries) {
      const int64_t t1 = std::min(t0 + queries, t_end);
      const KeySpans spans = finders_[thread].find(inputs_.program, head, t0, t1, begin, end);
      for (int64_t i = 0; i < spans.count; ++i) {
        for (int64_t s0 = spans.data[i].begin, s1; s0 < spans.data[i].end; s0 = s1) {
          s1 = std::min(spans.data[i].end, (s0 / kKeys + 1) * kKeys);
          set_.weights(head, lse_ + first_row(inputs_, b, h), t0, {s0, s1, spans.data[i].masked},
                       weights, weights + 2 * kKeys * kQueries);
          body(WeightPatch{t0, t1, s0, s1, weights, set_.weights_stride(head)});
        }
      }
    }
  }

  // d loss / d weight of a patch: the product of the rows of d_out and v, where a forward has q and
  // k.
  WeightPatch gradient(const WeightPatch& patch, const View<const E>& d_out, int64_t b, int64_t h,
                       int thread) {
    AttentionInputs<E> products = {.shape = inputs_.shape, .q = d_out, .k = inputs_.v};
    products.shape.D = inputs_.shape.Dv;
    const HeadInputs head = head_inputs(products, b, h);
    float* to = workspace_.part(thread) + kKeys * kQueries;
    set_.scores(head, patch.t0, {patch.s0, patch.s1, false}, to, to + kKeys * kQueries);
    return {patch.t0, patch.t1, patch.s0, patch.s1, to, set_.weights_stride(head)};
  }

  bool ok() const { return workspace_.ok(); }

 private:
  static int64_t floats(const KernelSet& set, const AttentionInputs<E>& inputs) {
    HeadInputs head = head_inputs(inputs, 0, 0);
    const int64_t own = set.weights_floats(head);
    head.D = std::max(head.D, head.Dv);
    return std::max(own, set.weights_floats(head));
  }

  const KernelSet& set_;
  const AttentionInputs<E>& inputs_;
  const float* lse_;
  const Thresholds thresholds_;
  Workspace workspace_;
  std::vector<SpanFinder> finders_;
};

// The same from the reference's matrix, where no kernels run: for one head at a time.
template <class E>
std::vector<RealOf<E>> matrix_of(const AttentionInputs<E>& inputs, Executor& executor) {
  const Shape& shape = inputs.shape;
  std::vector<RealOf<E>> weights(shape.B * shape.H * shape.T * shape.S);
  std::vector<RealOf<E>> lse(shape.B * shape.H * shape.T);
  const AttentionOutputs<E> outputs = {
      .out = {},
      .lse = lse.data(),
      .weights = dense_view(weights.data(), shape.H, shape.T, shape.S)};
  ref::attention_forward(inputs, outputs, executor);
  return weights;
}

template <class E>
bool has_kernels() {
  if constexpr (std::is_same_v<E, double>) return false;
  return kernels_in_use() != nullptr;
}

// <w, p> of n floats, in sixteen chains that compilers turn into vectors.
float product(const float* w, const float* p, int64_t n) {
  constexpr int kChains = 16;
  float sums[kChains] = {};
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains) {
    for (int j = 0; j < kChains; ++j) sums[j] += w[i + j] * p[i + j];
  }
  float sum = 0;
  for (; i < n; ++i) sum += w[i] * p[i];
  for (float x : sums) sum += x;
  return sum;
}

// Runs column(b, h, first key, end key, sums, thread) for tasks that own `sums` of some columns.
template <class Real, class Column>
void for_columns(const Shape& shape, Real* sums, Executor& executor, const Column& column) {
  const int64_t chunks = (shape.S + kKeys - 1) / kKeys;
  auto task = [&](int64_t index, int thread) {
    const int64_t head = index / chunks, begin = index % chunks * kKeys;
    const int64_t end = std::min(begin + kKeys, shape.S);
    std::vector<double> own(static_cast<size_t>(end - begin), 0.0);
    column(head / shape.H, head % shape.H, begin, end, own.data(), thread);
    for (int64_t s = begin; s < end; ++s) {
      sums[head * shape.S + s] = static_cast<Real>(own[s - begin]);
    }
  };
  executor.parallel(shape.B * shape.H * chunks, task);
}

template <class E>
double weight_of_row(const AttentionInputs<E>& inputs, const RealOf<E>* row_weights, int64_t b,
                     int64_t h, int64_t t) {
  return row_weights == nullptr ? 1.0 : row_weights[first_row(inputs, b, h) + t];
}

// What the dropout of a pair multiplies its weight by.
template <class E>
double dropout_factor_of(const AttentionInputs<E>& inputs, int64_t b, int64_t h, int64_t t,
                         int64_t s) {
  if (inputs.dropout.p <= 0) return 1;
  const uint64_t key = dropout_key(inputs.dropout.seed, b, h);
  const uint32_t bits = dropout_bits(dropout_query_hash(key, t), dropout_key_hash(key, s));
  return bits < dropout_threshold(inputs.dropout.p) ? 0 : dropout_factor(inputs.dropout.p);
}

// The row weights of a patch's queries.
template <class E>
void row_weights_of(const AttentionInputs<E>& inputs, const RealOf<E>* row_weights,
                    const WeightPatch& patch, int64_t b, int64_t h, float* to) {
  for (int64_t t = patch.t0; t < patch.t1; ++t) {
    to[t - patch.t0] = static_cast<float>(weight_of_row(inputs, row_weights, b, h, t));
  }
}

template <class E>
double positive_gradient(const AttentionInputs<E>& inputs, const View<const E>& d_out, int64_t b,
                         int64_t h, int64_t t, int64_t s, double weight) {
  if (weight == 0) return 0;
  const E *a = d_out.row(b, h, t), *v = inputs.v.row(b, h / inputs.shape.group(), s);
  double sum = 0;
  for (int64_t d = 0; d < inputs.shape.Dv; ++d) sum += ref::to_double(a[d]) * ref::to_double(v[d]);
  return std::max(0.0, weight * sum * dropout_factor_of(inputs, b, h, t, s));
}

}  // namespace

template <class E>
void column_sums(const AttentionInputs<E>& inputs, const RealOf<E>* lse,
                 const RealOf<E>* row_weights, RealOf<E>* sums, Executor& executor) {
  const Shape& shape = inputs.shape;
  if constexpr (!std::is_same_v<E, double>) {
    if (has_kernels<E>()) {
      Sweep<E> sweep(inputs, lse, executor);
      for_columns(shape, sums, executor,
                  [&](int64_t b, int64_t h, int64_t begin, int64_t end, double* own, int thread) {
                    float w[kQueries];
                    sweep.patches(b, h, 0, shape.T, begin, end, thread, [&](const WeightPatch& p) {
                      row_weights_of(inputs, row_weights, p, b, h, w);
                      for (int64_t s = p.s0; s < p.s1; ++s) {
                        own[s - begin] += product(w, p.at(s), p.t1 - p.t0);
                      }
                    });
                  });
      return;
    }
  }
  const auto p = matrix_of(inputs, executor);
  for_columns(shape, sums, executor,
              [&](int64_t b, int64_t h, int64_t begin, int64_t end, double* own, int) {
                for (int64_t t = 0; t < shape.T; ++t) {
                  const int64_t row = (b * shape.H + h) * shape.T + t;
                  const double w = weight_of_row(inputs, row_weights, b, h, t);
                  for (int64_t s = begin; s < end; ++s) own[s - begin] += w * p[row * shape.S + s];
                }
              });
}

template <class E>
void diagonal(const AttentionInputs<E>& inputs, const RealOf<E>* lse, int64_t d, RealOf<E>* p,
              Executor& executor) {
  const Shape& shape = inputs.shape;
  std::fill_n(p, shape.B * shape.H * shape.T, RealOf<E>(0));
  const int64_t first = std::max<int64_t>(0, -d), last = std::min(shape.T, shape.S - d);
  if (first >= last) return;
  if constexpr (!std::is_same_v<E, double>) {
    if (has_kernels<E>()) {
      Sweep<E> sweep(inputs, lse, executor);
      constexpr int64_t kTask =
          768;  // queries: tasks enough, and whole patches of every kernel set
      const int64_t tasks = (last - first + kTask - 1) / kTask;
      auto task = [&](int64_t index, int thread) {
        const int64_t b = index / tasks / shape.H, h = index / tasks % shape.H;
        const int64_t begin = first + index % tasks * kTask, end = std::min(begin + kTask, last);
        RealOf<E>* to = p + (b * shape.H + h) * shape.T;
        // Patches as narrow as they are wide: all but their diagonals is waste.
        constexpr int64_t kPatch = 48;
        for (int64_t t0 = begin; t0 < end; t0 += kPatch) {
          const int64_t t1 = std::min(t0 + kPatch, end);
          sweep.patches(b, h, t0, t1, t0 + d, t1 + d, thread, [&](const WeightPatch& patch) {
            for (int64_t t = patch.t0; t < patch.t1; ++t) {
              if (t + d < patch.s0 || t + d >= patch.s1) continue;
              to[t] = patch.at(t + d)[t - patch.t0];
            }
          });
        }
      };
      executor.parallel(shape.B * shape.H * tasks, task);
      return;
    }
  }
  const auto weights = matrix_of(inputs, executor);
  for (int64_t row = 0; row < shape.B * shape.H * shape.T; ++row) {
    const int64_t t = row % shape.T;
    if (t >= first && t < last) p[row] = weights[row * shape.S + t + d];
  }
}

template <class E>
void block_means(const AttentionInputs<E>& inputs, const RealOf<E>* lse, int64_t n,
                 RealOf<E>* means, Executor& executor) {
  const Shape& shape = inputs.shape;
  const int64_t rows = (shape.T + n - 1) / n, columns = (shape.S + n - 1) / n;
  std::vector<RealOf<E>> weights;
  const bool kernels = has_kernels<E>();
  if (!kernels) weights = matrix_of(inputs, executor);
  auto run = [&](auto&& add) {
    auto task = [&](int64_t index, int thread) {
      const int64_t head = index / rows, first = index % rows * n;
      const int64_t end = std::min(first + n, shape.T);
      std::vector<double> own(static_cast<size_t>(columns), 0.0);
      add(head / shape.H, head % shape.H, first, end, own.data(), thread);
      for (int64_t j = 0; j < columns; ++j) {
        const auto pairs =
            static_cast<double>((end - first) * (std::min(j * n + n, shape.S) - j * n));
        means[index * columns + j] = static_cast<RealOf<E>>(own[j] / pairs);
      }
    };
    executor.parallel(shape.B * shape.H * rows, task);
  };
  if constexpr (!std::is_same_v<E, double>) {
    if (kernels) {
      Sweep<E> sweep(inputs, lse, executor);
      const std::vector<float> ones(kQueries, 1.0f);
      run([&](int64_t b, int64_t h, int64_t first, int64_t end, double* own, int thread) {
        sweep.patches(b, h, first, end, 0, shape.S, thread, [&](const WeightPatch& p) {
          for (int64_t s = p.s0; s < p.s1; ++s) {
            own[s / n] += product(ones.data(), p.at(s), p.t1 - p.t0);
          }
        });
      });
      return;
    }
  }
  run([&](int64_t b, int64_t h, int64_t first, int64_t end, double* own, int) {
    for (int64_t t = first; t < end; ++t) {
      const auto* row = weights.data() + ((b * shape.H + h) * shape.T + t) * shape.S;
      for (int64_t s = 0; s < shape.S; ++s) own[s / n] += row[s];
    }
  });
}

template <class E>
void gradient_column_sums(const AttentionInputs<E>& inputs, const AttentionGradients<E>& gradients,
                          const RealOf<E>* row_weights, RealOf<E>* sums, Executor& executor) {
  const Shape& shape = inputs.shape;
  const View<const E>& d_out = gradients.d_out;
  if constexpr (!std::is_same_v<E, double>) {
    if (has_kernels<E>()) {
      Sweep<E> sweep(inputs, gradients.lse, executor);
      for_columns(shape, sums, executor,
                  [&](int64_t b, int64_t h, int64_t begin, int64_t end, double* own, int thread) {
                    float w[kQueries];
                    sweep.patches(b, h, 0, shape.T, begin, end, thread, [&](const WeightPatch& p) {
                      const WeightPatch d_p = sweep.gradient(p, d_out, b, h, thread);
                      row_weights_of(inputs, row_weights, p, b, h, w);
                      for (int64_t s = p.s0; s < p.s1; ++s) {
                        double sum = 0;
                        for (int64_t t = p.t0; t < p.t1; ++t) {
                          const float weight = p.at(s)[t - p.t0];
                          if (weight == 0) continue;  // masked: d_p may be no number
                          const double factor = dropout_factor_of(inputs, b, h, t, s);
                          const double both = weight * d_p.at(s)[t - d_p.t0] * factor;
                          sum += w[t - p.t0] * std::max(0.0, both);
                        }
                        own[s - begin] += sum;
                      }
                    });
                  });
      return;
    }
  }
  const auto p = matrix_of(inputs, executor);
  for_columns(shape, sums, executor,
              [&](int64_t b, int64_t h, int64_t begin, int64_t end, double* own, int) {
                for (int64_t t = 0; t < shape.T; ++t) {
                  const int64_t row = (b * shape.H + h) * shape.T + t;
                  const double w = weight_of_row(inputs, row_weights, b, h, t);
                  for (int64_t s = begin; s < end; ++s) {
                    const double both =
                        positive_gradient(inputs, d_out, b, h, t, s, p[row * shape.S + s]);
                    own[s - begin] += w * both;
                  }
                }
              });
}

#define HEED_DEFINE(E)                                                                        \
  template void column_sums(const AttentionInputs<E>&, const RealOf<E>*, const RealOf<E>*,    \
                            RealOf<E>*, Executor&);                                           \
  template void diagonal(const AttentionInputs<E>&, const RealOf<E>*, int64_t, RealOf<E>*,    \
                         Executor&);                                                          \
  template void block_means(const AttentionInputs<E>&, const RealOf<E>*, int64_t, RealOf<E>*, \
                            Executor&);                                                       \
  template void gradient_column_sums(const AttentionInputs<E>&, const AttentionGradients<E>&, \
                                     const RealOf<E>*, RealOf<E>*, Executor&);
HEED_FOR_ELEMENTS(HEED_DEFINE)
#undef HEED_DEFINE

}  // namespace heed
