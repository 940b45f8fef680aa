// Writes a file so that a reader, even after a power cut, sees the old one or the new one, each
// whole.
//
//   AtomicFile file("model.safetensors");
//   file.write(header.data(), header.size());
//   file.commit();   // without it, the destructor leaves the old file as it was
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace heed {

// A temporary file beside `path`, locked while its writer lives. Temporaries of the same target
// whose writer was killed are removed when the next one is opened. Every failure throws UserError
// with the path.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);
  void commit();  // flushes the file, renames it over `path`, flushes the folder

 private:
  void open_temporary();
  [[noreturn]] void fail(std::string_view action);  // reports errno, after the temporary is gone
  void discard() noexcept;

  std::filesystem::path path_, folder_, temporary_;
  int fd_ = -1;
};

void write_file_atomically(const std::filesystem::path& path,
                           std::span<const std::string_view> pieces);
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace heed
