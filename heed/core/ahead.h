// What a thread will touch next, for its kernel to ask the memory for while it still computes.
#pragma once

#include <algorithm>

#include "heed/core/heads.h"

namespace heed {

// Queries [t0, t1) of a head; its place among the head's tasks.
struct ForwardTask {
  int64_t b, h, t0, t1;
  int64_t place, places;
};

// K and V of the next head are fetched by the tasks of the one before, as far as they leave most of
// an L2 alone.
inline constexpr int64_t kAheadBytes = 128 * 1024;  // each of K and V

template <class E>
Ahead::Lines lines(Rows rows, int64_t begin, int64_t end, int64_t width) {
  return {.row = static_cast<const char*>(rows.data) + begin * rows.stride * int64_t{sizeof(E)},
          .stride = rows.stride * int64_t{sizeof(E)},
          .bytes = width * int64_t{sizeof(E)},
          .rows = rows.data == nullptr ? 0 : std::max<int64_t>(end - begin, 0)};
}

// A task writes its own rows of out; `next` is the thread's next task, `next_head` the first task
// of the head after this one (each may be the task itself: there is none).
template <class E>
Ahead ahead_of(const AttentionInputs<E>& inputs, const HeadInputs& head, const HeadOutputs& to,
               const ForwardTask& task, const ForwardTask& next, const ForwardTask& next_head,
               int64_t threads) {
  const auto key_head = [&](const ForwardTask& of) { return of.h / inputs.shape.group(); };
  const auto key_rows = [&](const ForwardTask& of, int64_t begin, int64_t end, Ahead& ahead) {
    const int64_t* offsets = inputs.packing.k_offsets;
    ahead.of[2] = lines<E>(rows(inputs.k, of.b, key_head(of), offsets), begin, end, head.D);
    ahead.of[3] = lines<E>(rows(inputs.v, of.b, key_head(of), offsets), begin, end, head.Dv);
  };
  Ahead ahead = {};
  ahead.of[0] = lines<E>({to.out.data, to.out.stride}, task.t0, task.t1, head.Dv);
  if (next.b != task.b || next.h != task.h || next.t0 != task.t0) {
    const Rows q = rows(inputs.q, next.b, next.h, inputs.packing.q_offsets);
    ahead.of[1] = lines<E>(q, next.t0, next.t1, head.D);
  }
  if (is_window(head.band) && next.b == task.b && next.h == task.h) {
    key_rows(next, first_key(head.band, next.t0),
             std::min(first_key(head.band, task.t0), end_key(head.band, next.t1 - 1)), ahead);
  } else if (next_head.b != task.b || key_head(next_head) != key_head(task)) {
    const int64_t S = std::min(lengths_of(inputs, next_head.b).S,
                               kAheadBytes / (std::max(head.D, head.Dv) * int64_t{sizeof(E)} + 1));
    const int64_t shares = std::max<int64_t>(task.places / threads, 1);
    const int64_t share = std::min(task.place / threads, shares - 1);
    key_rows(next_head, S * share / shares, S * (share + 1) / shares, ahead);
  }
  return ahead;
}

}  // namespace heed
