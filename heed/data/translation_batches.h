// Batches of encoded sentence pairs: grouped by length, bounded in tokens, shuffled from a seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace heed {

struct EncodedPair {
  std::vector<int64_t> source, target;  // subword ids; the target without begin and end marks
};

struct TranslationBatch {
  at::Tensor source;          // [B,S] int64, padded
  at::Tensor source_lengths;  // [B] int64
  at::Tensor target_in;       // [B,T] int64: begin mark, then the target
  at::Tensor target_out;      // [B,T] int64: the target, then the end mark
  int64_t target_tokens = 0;  // without padding
};

// The pairs of each batch. A batch holds at most `batch_tokens` target tokens, padding included
// (but at least one pair). `shuffle_seed` 0 keeps plain order by length; otherwise pairs of equal
// length and the batches are shuffled: the same seed gives the same plan.
std::vector<std::vector<size_t>> plan_batches(const std::vector<EncodedPair>& pairs,
                                              int64_t batch_tokens, uint64_t shuffle_seed);

TranslationBatch make_batch(const std::vector<EncodedPair>& pairs,
                            const std::vector<size_t>& chosen);

// Rows of ids, padded to the longest: [B,S] and lengths [B].
std::pair<at::Tensor, at::Tensor> pad_rows(const std::vector<const std::vector<int64_t>*>& rows);

}  // namespace heed
