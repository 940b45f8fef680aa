// Top-k: each row's k-th largest score, found in a sweep of its own before the one that uses it.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "heed/core/heads.h"
#include "heed/core/workspace.h"

namespace heed {

// [B,H,T], or [H, total] where packed; empty without top_k. A row with no more than top_k visible
// keys keeps them all.
class Thresholds {
 public:
  template <class E>
  Thresholds(const KernelSet& set, const AttentionInputs<E>& inputs, Executor& executor) {
    const Shape& shape = inputs.shape;
    if (inputs.top_k <= 0 || shape.T == 0 || shape.H == 0) return;
    values_.resize(static_cast<size_t>(total_rows(inputs)), kNone);
    Sweep<E> sweep(set, inputs, executor.threads());
    const int64_t blocks = (shape.T + kQueries - 1) / kQueries;
    auto block = [&](int64_t index, int thread) {
      const int64_t b = index / blocks / shape.H, h = index / blocks % shape.H;
      sweep.run(b, h, index % blocks * kQueries, thread, values_.data());
    };
    if (sweep.ok()) executor.parallel(shape.B * shape.H * blocks, block);
  }

  const float* data() const { return values_.empty() ? nullptr : values_.data(); }

 private:
  static constexpr float kNone = -std::numeric_limits<float>::infinity();
  static constexpr int64_t kKeys = 256;     // of one call of scores
  static constexpr int64_t kQueries = 192;  // of a task: whole tiles of every kernel set

  // Of some queries' scores those that may be among the k largest: what is not above a row's k-th
  // largest so far can't change it, so most of a long row is turned away by that one comparison.
  class Largest {
   public:
    // No more than `most` scores a row.
    void reset(int64_t k, int64_t most, int64_t queries) {
      k_ = k;
      full_ = std::min(k + std::max<int64_t>(k, 64), most);
      capacity_ = full_ + kKeys + 1;
      scores_.resize(std::max(scores_.size(), static_cast<size_t>(queries * capacity_)));
      counts_.assign(static_cast<size_t>(queries), 0);
      bounds_.assign(static_cast<size_t>(queries), kNone);
    }

    // Of up to kKeys keys, [keys, queries] with that stride. Without a branch for each score: most
    // are near enough to the bound to be guessed wrong. NaN, which has no order, is never above it.
    void add(const float* scores, int64_t keys, int64_t stride) {
      const auto queries = static_cast<int64_t>(counts_.size());
      for (int64_t s = 0; s < keys; ++s) {
        for (int64_t t = 0; t < queries; ++t) {
          const float score = scores[s * stride + t];
          scores_[t * capacity_ + counts_[t]] = score;
          counts_[t] += score > bounds_[t] ? 1 : 0;
        }
      }
      for (int64_t t = 0; t < queries; ++t) {
        if (counts_[t] > full_) keep_largest(t);
      }
    }

    // kNone where there were no more than k.
    float kth(int64_t t) {
      if (counts_[t] > k_) keep_largest(t);
      return bounds_[t];
    }

   private:
    void keep_largest(int64_t t) {
      float* row = scores_.data() + t * capacity_;
      std::nth_element(row, row + (k_ - 1), row + counts_[t], std::greater<float>());
      counts_[t] = k_;
      bounds_[t] = row[k_ - 1];
    }

    int64_t k_ = 0, full_ = 0, capacity_ = 0;
    std::vector<float> scores_;  // [queries, capacity]
    std::vector<int64_t> counts_;
    std::vector<float> bounds_;
  };

  // The scores of some queries, key by key, and what is kept of them.
  template <class E>
  class Sweep {
   public:
    Sweep(const KernelSet& set, const AttentionInputs<E>& inputs, int threads)
        : set_(set),
          inputs_(inputs),
          top_k_(std::min(inputs.top_k, inputs.shape.S)),
          floats_(floats(set, inputs)),
          workspace_(threads, floats_ + kKeys * kQueries),
          finders_(threads),
          largest_(threads) {}

    bool ok() const { return workspace_.ok(); }

    // Queries [first, first + kQueries) of a head.
    void run(int64_t b, int64_t h, int64_t first, int thread, float* values) {
      const HeadInputs head = head_inputs(inputs_, b, h);
      const int64_t end = std::min(first + kQueries, head.T), step = set_.weights_queries(head);
      float* to = values + first_row(inputs_, b, h);
      for (int64_t t0 = first; t0 < end; t0 += step) {
        const int64_t t1 = std::min(t0 + step, end);
        gather(head, t0, t1, thread);
        for (int64_t t = t0; t < t1; ++t) {
          to[t] = largest_[thread].kth(t - t0);
        }
      }
    }

   private:
    static int64_t floats(const KernelSet& set, const AttentionInputs<E>& inputs) {
      int64_t most = 0;
      for (int64_t b = 0; b < inputs.shape.B; ++b) {
        most = std::max(most, set.weights_floats(head_inputs(inputs, b, 0)));
      }
      return most;
    }

    void gather(const HeadInputs& head, int64_t t0, int64_t t1, int thread) {
      Largest& largest = largest_[thread];
      largest.reset(top_k_, head.S, t1 - t0);
      const int64_t stride = set_.weights_stride(head);
      float* scores = workspace_.part(thread);
      const KeySpans spans = finders_[thread].find(inputs_.program, head, t0, t1, 0, head.S);
      for (int64_t i = 0; i < spans.count; ++i) {
        for (int64_t begin = spans.data[i].begin, end; begin < spans.data[i].end; begin = end) {
          end = std::min(spans.data[i].end, (begin / kKeys + 1) * kKeys);
          set_.scores(head, t0, {begin, end, spans.data[i].masked}, scores,
                      scores + kKeys * kQueries);
          largest.add(scores, end - begin, stride);
        }
      }
    }

    const KernelSet& set_;
    const AttentionInputs<E>& inputs_;
    const int64_t top_k_;  // no more than there are keys
    const int64_t floats_;
    Workspace workspace_;
    std::vector<SpanFinder> finders_;
    std::vector<Largest> largest_;  // of each thread
  };

  std::vector<float> values_;
};

}  // namespace heed
