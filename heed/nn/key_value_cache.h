// Keys and values of the tokens so far, for decoding step by step (Shazeer 2019).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace heed::nn {

struct KeyValueCacheOptions {
  int64_t batch;           // B
  int64_t kv_heads;        // Hkv
  int64_t capacity;        // rows that there is room for
  int64_t key_size;        // D
  int64_t value_size = 0;  // Dv; 0 means D
  bool grow = false;       // where the room is too little, double it (and copy) rather than throw
  at::TensorOptions tensor = {};  // dtype and device
};

// Keys [B,Hkv,capacity,D] and values [B,Hkv,capacity,Dv], allocated once, appended in place, read
// where they lie. Elements may differ in length. It holds numbers, not graphs: no gradient passes.
class KeyValueCache {
 public:
  explicit KeyValueCache(const KeyValueCacheOptions& options);

  // keys [B,Hkv,T,D], values [B,Hkv,T,Dv]; lengths [B] int64: how many of the T rows count,
  // undefined means all.
  void append(const at::Tensor& keys, const at::Tensor& values, const at::Tensor& lengths = {});

  // Views [B,Hkv,length,D] and [B,Hkv,length,Dv]; of a shorter element, the rows from its length on
  // mean nothing.
  at::Tensor keys() const;
  at::Tensor values() const;

  at::Tensor lengths() const;  // [B] int64, rows of each element
  int64_t length() const;      // rows of the longest
  bool uniform() const;        // whether all have the same length
  int64_t capacity() const { return keys_.size(2); }

  // Element i becomes what element elements[i] was ([B'] int64): the step of a beam search.
  void select(const at::Tensor& elements);

  // Forgets all rows; the memory stays.
  void reset();

 private:
  std::vector<int64_t> counts(const at::Tensor& lengths, int64_t T) const;
  void make_room(int64_t needed);

  at::Tensor keys_, values_;
  std::vector<int64_t> lengths_;
  bool grow_;
};

}  // namespace heed::nn
