// One aligned block of floats per call, shared out to threads.
#pragma once

#include <cstdint>
#include <new>

namespace heed {

class Workspace {
 public:
  // Uninitialised; check ok(): the core never throws, so a caller without memory takes another way.
  Workspace(int64_t parts, int64_t floats_per_part)
      : stride_((floats_per_part + kLine - 1) / kLine * kLine),
        data_(static_cast<float*>(
            ::operator new(static_cast<std::size_t>(parts* stride_ + kLine) * sizeof(float),
                           std::align_val_t(kLine * sizeof(float)), std::nothrow))) {}
  ~Workspace() { ::operator delete(data_, std::align_val_t(kLine * sizeof(float))); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  bool ok() const { return data_ != nullptr; }
  float* part(int64_t index) const { return data_ + index * stride_; }

 private:
  static constexpr int64_t kLine = 16;  // floats in a cache line: parts of two threads share none
  int64_t stride_;
  float* data_;
};

}  // namespace heed
