// The JSON header of a safetensors file: which tensors there are and where their bytes lie.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace heed {

constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, set by the format

struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes within the data that follows the header
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // by position, without holes or overlaps
  std::map<std::string, std::string> metadata;
};

struct SafetensorsHeaderError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// `data_size` is the number of bytes after the header. Throws SafetensorsHeaderError with the rule
// that is broken.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size);

// Padded with spaces so that the data begin at a multiple of 8 bytes. Entries keep their order.
// Throws SafetensorsHeaderError where a name, a type or a value cannot be stored.
std::string format_safetensors_header(const SafetensorsHeader& header);

std::string quoted_name(std::string_view name);  // a name from a file, fit for a one-line message

}  // namespace heed
