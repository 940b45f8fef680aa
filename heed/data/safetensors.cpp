// safetensors files: 8 bytes of header size, a JSON header, then the tensors' bytes.
#include "heed/data/safetensors.h"

#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "heed/data/atomic_file.h"
#include "heed/data/error.h"
#include "heed/data/safetensors_header.h"

namespace heed {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little endian");

constexpr uint64_t kPrefix = 8;  // the header's size

// Reads by position. A file that is cut while it is read gives an error; mapped memory would end
// the process.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) refuse(std::string("cannot open: ") + std::strerror(errno));
    struct stat status {};
    if (::fstat(fd_, &status) < 0) refuse_and_close(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) refuse_and_close("not a file");
    size_ = static_cast<uint64_t>(status.st_size);
  }
  ~InputFile() { ::close(fd_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }

  void read(void* data, uint64_t size, uint64_t position) const {
    constexpr uint64_t kMost = uint64_t{1} << 24;  // pread(2) gives less than 2 GiB
    char* next = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t count = ::pread(fd_, next, std::min(size, kMost), static_cast<off_t>(position));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) refuse(std::string("cannot read: ") + std::strerror(errno));
      if (count == 0) refuse("truncated while it was read; copy it again");
      next += count;
      position += static_cast<uint64_t>(count);
      size -= static_cast<uint64_t>(count);
    }
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    throw UserError(path_.string() + ": " + reason);
  }

 private:
  [[noreturn]] void refuse_and_close(const std::string& reason) const {
    ::close(fd_);
    refuse(reason);
  }

  const std::filesystem::path path_;
  int fd_;
  uint64_t size_ = 0;
};

std::string read_header(const InputFile& file) {
  if (file.size() < kPrefix) {
    file.refuse("truncated: file has " + std::to_string(file.size()) +
                " bytes, the shortest safetensors file 10; copy it again");
  }
  uint64_t size = 0;
  file.read(&size, kPrefix, 0);
  if (size > kMaxSafetensorsHeader) {
    file.refuse("header of " + std::to_string(size) +
                " bytes exceeds 100,000,000; is this a safetensors file?");
  }
  if (size > file.size() - kPrefix) {
    file.refuse("truncated: header says " + std::to_string(kPrefix + size) + " bytes, file has " +
                std::to_string(file.size()) + "; copy it again");
  }
  std::string header(size, '\0');
  file.read(header.data(), size, kPrefix);
  return header;
}

at::Tensor read_tensor(const InputFile& file, const TensorEntry& entry, uint64_t data_begin) {
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions(entry.dtype));
  const uint64_t size = entry.end - entry.begin;
  auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
  file.read(bytes, size, data_begin + entry.begin);
  // A bool that is neither 0 nor 1 is undefined behaviour wherever it is used.
  if (entry.dtype == at::kBool && std::any_of(bytes, bytes + size, [](auto b) { return b > 1; })) {
    file.refuse("tensor " + quoted_name(entry.name) + ": a BOOL is neither 0 nor 1");
  }
  return tensor;
}

// Widest elements first, so that every tensor lies at a multiple of its element's size.
std::vector<TensorEntry> lay_out(const TensorMap& tensors) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), 0, 0});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return c10::elementSize(a.dtype) > c10::elementSize(b.dtype);
  });
  uint64_t position = 0;
  for (TensorEntry& entry : entries) {
    entry.begin = position;
    entry.end = position += tensors.at(entry.name).nbytes();
  }
  return entries;
}

}  // namespace

TensorFile read_safetensors(const std::filesystem::path& path) {
  const InputFile file(path);
  const std::string json = read_header(file);
  const uint64_t data_begin = kPrefix + json.size();
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(json, file.size() - data_begin);
  } catch (const SafetensorsHeaderError& error) {
    file.refuse(error.what());
  }
  TensorFile result;
  result.metadata = std::move(header.metadata);
  for (const TensorEntry& entry : header.entries) {
    result.tensors.emplace(entry.name, read_tensor(file, entry, data_begin));
  }
  return result;
}

void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsHeader header{lay_out(tensors), metadata};
  std::string json;
  try {
    json = format_safetensors_header(header);
  } catch (const SafetensorsHeaderError& error) {
    throw UserError(path.string() + ": " + error.what());
  }
  AtomicFile file(path);
  const uint64_t size = json.size();
  file.write(&size, kPrefix);
  file.write(json.data(), json.size());
  for (const TensorEntry& entry : header.entries) {
    const at::Tensor tensor = tensors.at(entry.name).detach().cpu().contiguous();
    file.write(tensor.data_ptr(), tensor.nbytes());
  }
  file.commit();
}

}  // namespace heed
