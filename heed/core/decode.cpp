// Units: some query heads that share a key head, against chunks of its keys. Each chunk gives a
// state of its own and they are merged in order, whether one task runs them one after the other or,
// where units are fewer than threads, tasks run them at once. So bits do not depend on threads.
#include "heed/core/decode.h"

#include <algorithm>
#include <vector>

#include "heed/core/heads.h"
#include "heed/core/workspace.h"

namespace heed {
namespace {

// Keys of a chunk: enough to pay for a state, few enough that 8 heads of 8192 keys feed 64 threads.
constexpr int64_t kChunkKeys = 1024;

template <class E>
bool decodes(const AttentionInputs<E>& inputs, const AttentionOutputs<E>& outputs) {
  // Without a product there are no heads' keys to share, and tanh costs more than reading.
  if (score_of(inputs) != Score::kDot) return false;
  // Row by row results are left to the row kernels, which see all of a row's keys in one call.
  if (outputs.weights || outputs.statistics.top > 0 || inputs.top_k > 0) return false;
  return outputs.out && inputs.shape.D > 0;
}

template <class E>
class Decode {
 public:
  Decode(const KernelSet& set, const AttentionInputs<E>& inputs, const AttentionOutputs<E>& outputs,
         Executor& executor)
      : set_(set),
        inputs_(inputs),
        outputs_(outputs),
        executor_(executor),
        shape_(inputs.shape),
        elements_(elements_of(inputs, set.decode_queries)),
        widest_(widest_of(inputs, elements_)),
        unit_heads_(std::min(shape_.group(), set.decode_heads(widest_))),
        parts_((shape_.group() + unit_heads_ - 1) / unit_heads_),
        units_(static_cast<int64_t>(elements_.size()) * shape_.Hkv * parts_),
        chunks_(std::max<int64_t>(1, (shape_.S + kChunkKeys - 1) / kChunkKeys)),
        state_floats_(unit_heads_ * widest_.T * set.decode_state_floats(widest_)),
        threads_(executor.threads()) {}

  // False: no memory.
  bool run() {
    if (units_ == 0) return true;
    const int threads = executor_.threads();
    return threads > 1 && chunks_ > 1 && units_ < 4 * threads ? run_split() : run_whole();
  }

 private:
  // Each by its own length, whatever the others' in the pack.
  static std::vector<int64_t> elements_of(const AttentionInputs<E>& inputs, int64_t queries) {
    std::vector<int64_t> elements;
    for (int64_t b = 0; b < inputs.shape.B; ++b) {
      if (lengths_of(inputs, b).T <= queries) elements.push_back(b);
    }
    return elements;
  }
  static HeadInputs widest_of(const AttentionInputs<E>& inputs,
                              const std::vector<int64_t>& elements) {
    HeadInputs widest = widest_head(inputs);
    widest.T = 0;
    for (int64_t b : elements) widest.T = std::max(widest.T, lengths_of(inputs, b).T);
    return widest;
  }

  // What a thread keeps between its tasks.
  struct Thread {
    std::vector<HeadInputs> heads;  // of the unit
    std::vector<KeySpan> spans;
    SpanFinder finder;
  };

  int64_t decode_floats() const { return set_.decode_floats(widest_, unit_heads_); }

  bool run_whole() {
    const Workspace states(executor_.threads(), state_floats_),
        chunks(executor_.threads(), state_floats_);
    const Workspace workspace(executor_.threads(), decode_floats());
    if (!states.ok() || !chunks.ok() || !workspace.ok()) return false;
    auto unit = [&](int64_t index, int thread) {
      Thread& own = enter(index, thread);
      float* total = states.part(thread);
      run_chunk(own, 0, total, workspace.part(thread));
      for (int64_t chunk = 1; chunk < chunks_; ++chunk) {
        run_chunk(own, chunk, chunks.part(thread), workspace.part(thread));
        set_.decode_merge(own.heads[0], rows_of(own), total, chunks.part(thread));
      }
      finish(own, total);
    };
    executor_.parallel(units_, unit);
    return true;
  }

  bool run_split() {
    const Workspace states(units_ * chunks_, state_floats_);
    const Workspace workspace(executor_.threads(), decode_floats());
    if (!states.ok() || !workspace.ok()) return false;
    auto chunk = [&](int64_t index, int thread) {
      run_chunk(enter(index / chunks_, thread), index % chunks_, states.part(index),
                workspace.part(thread));
    };
    executor_.parallel(units_ * chunks_, chunk);
    auto unit = [&](int64_t index, int thread) {
      Thread& own = enter(index, thread);
      float* total = states.part(index * chunks_);
      for (int64_t i = 1; i < chunks_; ++i) {
        set_.decode_merge(own.heads[0], rows_of(own), total, states.part(index * chunks_ + i));
      }
      finish(own, total);
    };
    executor_.parallel(units_, unit);
    return true;
  }

  Thread& enter(int64_t unit, int thread) {
    Thread& own = threads_[thread];
    const int64_t group = shape_.group(), first = unit % parts_ * unit_heads_;
    const int64_t h = unit / parts_ % shape_.Hkv * group + first;
    const int64_t count = std::min(unit_heads_, group - first);
    own.heads.clear();
    for (int64_t i = 0; i < count; ++i) {
      own.heads.push_back(head_inputs(inputs_, elements_[unit / parts_ / shape_.Hkv], h + i));
    }
    return own;
  }
  static int64_t rows_of(const Thread& own) {
    return static_cast<int64_t>(own.heads.size()) * own.heads[0].T;
  }

  void run_chunk(Thread& own, int64_t chunk, float* states, float* workspace) {
    const int64_t begin = chunk * kChunkKeys;
    set_.decode(own.heads.data(), static_cast<int64_t>(own.heads.size()),
                spans_of(own, begin, std::min(begin + kChunkKeys, shape_.S)), states, workspace);
  }

  // Keys that any head of the unit may see. The mask is evaluated on all of them if on any: that
  // is cheap beside reading them.
  KeySpans spans_of(Thread& own, int64_t begin, int64_t end) {
    std::vector<KeySpan>& all = own.spans;
    all.clear();
    for (const HeadInputs& head : own.heads) {
      if (head.T == 0) continue;
      const KeySpans found = own.finder.find(inputs_.program, head, 0, head.T, begin, end);
      all.insert(all.end(), found.data, found.data + found.count);
    }
    const auto before = [](const KeySpan& a, const KeySpan& b) { return a.begin < b.begin; };
    std::stable_sort(all.begin(), all.end(), before);
    const bool masked = inputs_.program != nullptr && inputs_.program->has_mask();
    int64_t count = 0;
    for (const KeySpan& span : all) {
      if (count > 0 && span.begin <= all[count - 1].end) {
        all[count - 1].end = std::max(all[count - 1].end, span.end);
      } else {
        all[count++] = {span.begin, span.end, masked};
      }
    }
    return {all.data(), count};
  }

  void finish(const Thread& own, float* states) const {
    for (const HeadInputs& head : own.heads) {
      const HeadOutputs to = head_outputs(inputs_, outputs_, head.b, head.h);
      set_.decode_finish(head, to, states);
      states += head.T * set_.decode_state_floats(head);
    }
  }

  const KernelSet& set_;
  const AttentionInputs<E>& inputs_;
  const AttentionOutputs<E>& outputs_;
  Executor& executor_;
  const Shape& shape_;
  const std::vector<int64_t> elements_;
  const HeadInputs widest_;
  const int64_t unit_heads_, parts_;  // heads of a unit, units of a key head
  const int64_t units_, chunks_, state_floats_;
  std::vector<Thread> threads_;
};

}  // namespace

template <class E>
int64_t decoded_queries(const KernelSet& set, const AttentionInputs<E>& inputs,
                        const AttentionOutputs<E>& outputs) {
  return decodes(inputs, outputs) ? set.decode_queries : 0;
}

template <class E>
bool run_decode(const KernelSet& set, const AttentionInputs<E>& inputs,
                const AttentionOutputs<E>& outputs, Executor& executor) {
  return Decode<E>(set, inputs, outputs, executor).run();
}

#define HEED_DEFINE(E)                                                          \
  template int64_t decoded_queries(const KernelSet&, const AttentionInputs<E>&, \
                                   const AttentionOutputs<E>&);                 \
  template bool run_decode(const KernelSet&, const AttentionInputs<E>&,         \
                           const AttentionOutputs<E>&, Executor&);
HEED_DEFINE(float)
HEED_DEFINE(BFloat16)
HEED_DEFINE(Float16)
#undef HEED_DEFINE

}  // namespace heed
