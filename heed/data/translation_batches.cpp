#include "heed/data/translation_batches.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "heed/data/subwords.h"

namespace heed {

std::vector<std::vector<size_t>> plan_batches(const std::vector<EncodedPair>& pairs,
                                              int64_t batch_tokens, uint64_t shuffle_seed) {
  std::vector<size_t> order(pairs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(shuffle_seed);
  if (shuffle_seed != 0) std::shuffle(order.begin(), order.end(), random);
  // Stable, so that the shuffle decides among equals; the source second, as its padding costs too.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(pairs[a].target.size(), pairs[a].source.size()) <
           std::pair(pairs[b].target.size(), pairs[b].source.size());
  });
  std::vector<std::vector<size_t>> batches;
  for (const size_t index : order) {
    const auto tokens = static_cast<int64_t>(pairs[index].target.size()) + 1;  // the longest so far
    const bool full =
        batches.empty() || tokens * static_cast<int64_t>(batches.back().size() + 1) > batch_tokens;
    if (full) batches.emplace_back();
    batches.back().push_back(index);
  }
  if (shuffle_seed != 0) std::shuffle(batches.begin(), batches.end(), random);
  return batches;
}

std::pair<at::Tensor, at::Tensor> pad_rows(const std::vector<const std::vector<int64_t>*>& rows) {
  size_t longest = 0;
  for (const auto* row : rows) longest = std::max(longest, row->size());
  const auto B = static_cast<int64_t>(rows.size());
  at::Tensor ids =
      at::full({B, static_cast<int64_t>(longest)}, Subwords::kPad, at::kLong);  // [B,S]
  at::Tensor lengths = at::empty({B}, at::kLong);
  for (int64_t b = 0; b < B; ++b) {
    const std::vector<int64_t>& row = *rows[static_cast<size_t>(b)];
    std::copy(row.begin(), row.end(), ids.data_ptr<int64_t>() + b * static_cast<int64_t>(longest));
    lengths.data_ptr<int64_t>()[b] = static_cast<int64_t>(row.size());
  }
  return {ids, lengths};
}

TranslationBatch make_batch(const std::vector<EncodedPair>& pairs,
                            const std::vector<size_t>& chosen) {
  std::vector<std::vector<int64_t>> in, out;
  std::vector<const std::vector<int64_t>*> sources, ins, outs;
  TranslationBatch batch;
  for (const size_t index : chosen) {
    const EncodedPair& pair = pairs[index];
    sources.push_back(&pair.source);
    in.push_back({Subwords::kBegin});
    in.back().insert(in.back().end(), pair.target.begin(), pair.target.end());
    out.push_back(pair.target);
    out.back().push_back(Subwords::kEnd);
    batch.target_tokens += static_cast<int64_t>(out.back().size());
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    ins.push_back(&in[i]);
    outs.push_back(&out[i]);
  }
  std::tie(batch.source, batch.source_lengths) = pad_rows(sources);
  batch.target_in = pad_rows(ins).first;
  batch.target_out = pad_rows(outs).first;
  return batch;
}

}  // namespace heed
