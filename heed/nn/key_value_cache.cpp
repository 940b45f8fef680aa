#include "heed/nn/key_value_cache.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>

namespace heed::nn {
namespace {

void check_cache_size(const char* name, int64_t size) {
  TORCH_CHECK(size > 0, "[KeyValueCache] ", name, ": expected at least 1, got ", size);
}

void check_cache_rows(const char* name, const at::Tensor& rows, const at::Tensor& held, int64_t T) {
  const at::IntArrayRef sizes = held.sizes();
  const std::vector<int64_t> expected = {sizes[0], sizes[1], T, sizes[3]};
  TORCH_CHECK(rows.sizes() == expected, "[KeyValueCache] ", name,
              ": expected [B,Hkv,T,D] = ", at::IntArrayRef(expected), ", got ", rows.sizes());
}

}  // namespace

KeyValueCache::KeyValueCache(const KeyValueCacheOptions& options) : grow_(options.grow) {
  check_cache_size("batch", options.batch);
  check_cache_size("kv_heads", options.kv_heads);
  check_cache_size("capacity", options.capacity);
  check_cache_size("key_size", options.key_size);
  const int64_t value_size = options.value_size == 0 ? options.key_size : options.value_size;
  check_cache_size("value_size", value_size);
  const auto rows = [&](int64_t width) {
    return at::empty({options.batch, options.kv_heads, options.capacity, width}, options.tensor);
  };
  keys_ = rows(options.key_size);
  values_ = rows(value_size);
  lengths_.assign(static_cast<size_t>(options.batch), 0);
}

void KeyValueCache::append(const at::Tensor& keys, const at::Tensor& values,
                           const at::Tensor& lengths) {
  const int64_t T = keys.dim() == 4 ? keys.size(2) : 0;
  check_cache_rows("keys", keys, keys_, T);
  check_cache_rows("values", values, values_, T);
  const std::vector<int64_t> added = counts(lengths, T);
  std::vector<int64_t> ends = lengths_;
  for (size_t b = 0; b < ends.size(); ++b) ends[b] += added[b];
  const int64_t longest = *std::max_element(ends.begin(), ends.end());
  if (longest > capacity()) make_room(longest);

  const at::NoGradGuard no_grad;
  const auto write = [](const at::Tensor& held, const at::Tensor& rows, int64_t start, int64_t n) {
    held.narrow(-2, start, n).copy_(rows.narrow(-2, 0, n));
  };
  if (uniform() && !lengths.defined()) {
    write(keys_, keys, length(), T);
    write(values_, values, length(), T);
  } else {
    for (size_t i = 0; i < ends.size(); ++i) {
      const int64_t b = static_cast<int64_t>(i);
      write(keys_[b], keys[b], lengths_[i], added[i]);
      write(values_[b], values[b], lengths_[i], added[i]);
    }
  }
  lengths_ = ends;
}

at::Tensor KeyValueCache::keys() const { return keys_.narrow(2, 0, length()); }

at::Tensor KeyValueCache::values() const { return values_.narrow(2, 0, length()); }

at::Tensor KeyValueCache::lengths() const {
  return at::tensor(lengths_, at::kLong).to(keys_.device());
}

int64_t KeyValueCache::length() const {
  return *std::max_element(lengths_.begin(), lengths_.end());
}

bool KeyValueCache::uniform() const {
  return *std::min_element(lengths_.begin(), lengths_.end()) == length();
}

void KeyValueCache::select(const at::Tensor& elements) {
  TORCH_CHECK(elements.dim() == 1 && elements.size(0) > 0,
              "[KeyValueCache] elements: expected [B], B at least 1, got ", elements.sizes());
  keys_ = keys_.index_select(0, elements);
  values_ = values_.index_select(0, elements);
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < elements.size(0); ++i) {
    chosen.push_back(lengths_[static_cast<size_t>(elements[i].item<int64_t>())]);
  }
  lengths_ = chosen;
}

void KeyValueCache::reset() { std::fill(lengths_.begin(), lengths_.end(), 0); }

std::vector<int64_t> KeyValueCache::counts(const at::Tensor& lengths, int64_t T) const {
  std::vector<int64_t> result(lengths_.size(), T);
  if (!lengths.defined()) return result;
  const int64_t B = static_cast<int64_t>(lengths_.size());
  TORCH_CHECK(lengths.scalar_type() == at::kLong && lengths.sizes() == at::IntArrayRef({B}),
              "[KeyValueCache] lengths: expected int64 [B] = [", B, "], got ",
              lengths.scalar_type(), " ", lengths.sizes());
  for (int64_t b = 0; b < B; ++b) {
    const int64_t n = lengths[b].item<int64_t>();
    TORCH_CHECK(0 <= n && n <= T, "[KeyValueCache] lengths: expected numbers from 0 to T = ", T,
                ", got ", n);
    result[static_cast<size_t>(b)] = n;
  }
  return result;
}

void KeyValueCache::make_room(int64_t needed) {
  TORCH_CHECK(grow_, "[KeyValueCache] append: expected at most capacity = ", capacity(),
              " rows, got ", needed);
  int64_t doubled = capacity();
  while (doubled < needed) doubled *= 2;
  for (at::Tensor* held : {&keys_, &values_}) {
    const at::Tensor wider =
        held->new_empty({held->size(0), held->size(1), doubled, held->size(3)});
    wider.narrow(2, 0, length()).copy_(held->narrow(2, 0, length()));
    *held = wider;
  }
}

}  // namespace heed::nn
