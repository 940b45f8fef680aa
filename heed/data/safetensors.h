// Reading and writing safetensors files. The reader accepts only what the format's specification
// allows, so a file that was cut short, altered or made to deceive is refused with its reason and
// never read past its end.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace heed {

// By name. Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool.
using TensorMap = std::map<std::string, at::Tensor>;

struct TensorFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
};

TensorFile read_safetensors(const std::filesystem::path& path);

// Replaces `path` atomically. Equal tensors and metadata give equal bytes.
void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace heed
