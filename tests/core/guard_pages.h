// Memory that ends right before a page nobody may touch, or begins right after one: a read or a
// write out of bounds ends the process there.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>
#include <utility>

namespace heed::testing {

class GuardedMemory {
 public:
  enum class Side { kEndsAtPage, kBeginsAtPage };

  GuardedMemory() = default;
  GuardedMemory(std::size_t bytes, Side side) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = (bytes + page - 1) / page * page;
    mapped_ = inside + page;
    void* base = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(base);
    const bool ends = side == Side::kEndsAtPage;
    mprotect(ends ? base_ + inside : base_, page, PROT_NONE);
    data_ = ends ? base_ + inside - bytes : base_ + page;
  }
  ~GuardedMemory() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }
  GuardedMemory(GuardedMemory&& other) noexcept { *this = std::move(other); }
  GuardedMemory& operator=(GuardedMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }

  std::byte* data() const { return data_; }

 private:
  std::byte *base_ = nullptr, *data_ = nullptr;
  std::size_t mapped_ = 0;
};

}  // namespace heed::testing
