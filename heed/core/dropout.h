// Which weights dropout drops: a counter-based generator, a function of (seed, b, h, t, s) alone,
// so that neither tiles nor threads nor neighbours matter.
//
// A pair's bits are one 32-bit mix of two hashes, of its query and of its key, which are made once
// a row and once a column: a kernel spends a handful of vector instructions a pair.
#pragma once

#include <cstdint>

namespace heed {

constexpr uint64_t kDropoutStep = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio: odd, no pattern

// Static, not inline, here and below: a kernel file compiled for AVX-512 must not lend its copy to
// the program.
static inline uint64_t dropout_mix64(uint64_t x) {  // SplitMix64's (Steele, Lea, Flood 2014)
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

static inline uint64_t dropout_key(uint64_t seed, int64_t b, int64_t h) {
  const uint64_t of_seed = dropout_mix64(seed + kDropoutStep);
  const uint64_t of_batch = dropout_mix64(of_seed + static_cast<uint64_t>(b) * kDropoutStep);
  return dropout_mix64(of_batch + static_cast<uint64_t>(h + 1) * kDropoutStep);
}

// Queries take the even counters of a key, keys the odd ones.
static inline uint32_t dropout_query_hash(uint64_t key, int64_t t) {
  return static_cast<uint32_t>(dropout_mix64(key + 2 * static_cast<uint64_t>(t) * kDropoutStep) >>
                               32);
}
static inline uint32_t dropout_key_hash(uint64_t key, int64_t s) {
  return static_cast<uint32_t>(
      dropout_mix64(key + (2 * static_cast<uint64_t>(s) + 1) * kDropoutStep) >> 32);
}

// The kernels mirror this one on vectors.
static inline uint32_t dropout_mix32(uint32_t x) {  // MurmurHash3's finaliser (Appleby 2011)
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return x ^ x >> 16;
}
static inline uint32_t dropout_bits(uint32_t query_hash, uint32_t key_hash) {
  return dropout_mix32(query_hash ^ key_hash);
}

// Dropped where the bits are below; 0: nothing is. What is kept is multiplied by the factor, which
// is 0 for p = 1, where a few bits reach the threshold nonetheless.
static inline uint32_t dropout_threshold(double p) {
  const double scaled = p * 4294967296.0 + 0.5;
  return scaled >= 4294967295.0 ? 0xffffffffu : scaled < 1 ? 0 : static_cast<uint32_t>(scaled);
}
static inline double dropout_factor(double p) { return p < 1 ? 1 / (1 - p) : 0; }

}  // namespace heed
