// How often each n-gram occurs in a sequence of integers (token numbers or code points).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace heed {

template <std::size_t kMaxOrder>
struct NgramCount {
  std::array<int32_t, kMaxOrder> ngram;  // an n-gram of a lower order is filled up with zeros
  int64_t count;
};

// Sorted by n-gram, all of one order. Sorting beats a hash table here: the sequences are sentences.
template <std::size_t kMaxOrder>
using NgramCounts = std::vector<NgramCount<kMaxOrder>>;

template <std::size_t kMaxOrder>
NgramCounts<kMaxOrder> count_ngrams(std::span<const int32_t> sequence, std::size_t order) {
  std::vector<std::array<int32_t, kMaxOrder>> ngrams;
  for (std::size_t i = 0; i + order <= sequence.size(); ++i) {
    std::copy_n(sequence.begin() + static_cast<std::ptrdiff_t>(i), order,
                ngrams.emplace_back().begin());
  }
  std::sort(ngrams.begin(), ngrams.end());
  NgramCounts<kMaxOrder> counts;
  for (const auto& ngram : ngrams) {
    if (counts.empty() || counts.back().ngram != ngram) counts.push_back({ngram, 0});
    ++counts.back().count;
  }
  return counts;
}

// Calls visit(n-gram, count in a, count in b) for each n-gram of either, in order.
template <std::size_t kMaxOrder, typename Visit>
void visit_both(const NgramCounts<kMaxOrder>& a, const NgramCounts<kMaxOrder>& b, Visit visit) {
  auto i = a.begin(), j = b.begin();
  while (i != a.end() || j != b.end()) {
    const bool from_a = j == b.end() || (i != a.end() && i->ngram <= j->ngram);
    const bool from_b = i == a.end() || (j != b.end() && j->ngram <= i->ngram);
    const auto& ngram = from_a ? i->ngram : j->ngram;
    visit(ngram, from_a ? i->count : 0, from_b ? j->count : 0);
    i += from_a;
    j += from_b;
  }
}

template <std::size_t kMaxOrder>
int64_t count_matches(const NgramCounts<kMaxOrder>& a, const NgramCounts<kMaxOrder>& b) {
  int64_t matches = 0;
  visit_both(a, b,
             [&](const auto&, int64_t in_a, int64_t in_b) { matches += std::min(in_a, in_b); });
  return matches;
}

template <std::size_t kMaxOrder>
NgramCounts<kMaxOrder> larger_counts(const NgramCounts<kMaxOrder>& a,
                                     const NgramCounts<kMaxOrder>& b) {
  NgramCounts<kMaxOrder> larger;
  visit_both(a, b, [&](const auto& ngram, int64_t in_a, int64_t in_b) {
    larger.push_back({ngram, std::max(in_a, in_b)});
  });
  return larger;
}

}  // namespace heed
