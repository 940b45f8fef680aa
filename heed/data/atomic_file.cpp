// Atomic replacement of files: temporary, fsync, rename, fsync of the folder.
#include "heed/data/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <system_error>
#include <utility>

#include "heed/data/error.h"

namespace heed {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".tmp";
constexpr std::size_t kMaxWrite = std::size_t{1} << 24;  // write(2) takes less than 2 GiB
std::string temporary_prefix(const fs::path& path) { return "." + path.filename().string() + "."; }

template <typename Call>
auto retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// A temporary that nobody holds locked belongs to a writer that was killed.
void remove_if_abandoned(const fs::path& temporary) {
  const int fd = ::open(temporary.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return;
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(temporary.c_str());
  ::close(fd);
}

void remove_abandoned(const fs::path& folder, const std::string& prefix) {
  std::error_code ignored;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end;
       it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(kSuffix)) remove_if_abandoned(it->path());
  }
}

std::string reason(int error) {
  switch (error) {
    case ENOSPC:
      return "no space left on the disk; free some and try again";
    case EDQUOT:
      return "disk quota exceeded; free some space and try again";
    case EFBIG:
      return "the file is larger than this system allows; see `ulimit -f`";
    case EACCES:
    case EPERM:
      return "permission denied; choose a folder that you may write to";
    case EROFS:
      return "the disk is read-only; choose another folder";
    case EISDIR:
      return "there is a folder of that name; choose another name";
    case ENOENT:
      return "the folder does not exist; create it first";
    default:
      return std::strerror(error);
  }
}

// Where the new file goes: behind a link, its target. A device or a pipe is refused: renaming a
// file over it would take it away from everyone.
fs::path replaceable(fs::path path) {
  std::error_code ignored;
  if (fs::is_symlink(path, ignored)) path = fs::weakly_canonical(path, ignored);
  if (fs::is_other(path, ignored)) {
    throw UserError(path.string() + ": not a regular file; name one that may be replaced");
  }
  return path;
}

}  // namespace

AtomicFile::AtomicFile(fs::path path)
    : path_(replaceable(std::move(path))), folder_(path_.parent_path()) {
  if (folder_.empty()) folder_ = ".";
  remove_abandoned(folder_, temporary_prefix(path_));
  open_temporary();
}

void AtomicFile::open_temporary() {
  std::random_device random;
  for (;;) {
    temporary_ = folder_ / (temporary_prefix(path_) + std::to_string(::getpid()) + "-" +
                            std::to_string(random()) + std::string(kSuffix));
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && (errno == EEXIST || errno == EINTR)) continue;
    if (fd_ < 0) fail("open");
    // Another writer may have taken the file for abandoned before the lock was ours.
    struct stat status {};
    retry([&] { return ::flock(fd_, LOCK_EX); });
    if (::fstat(fd_, &status) == 0 && status.st_nlink > 0) return;
    ::close(std::exchange(fd_, -1));
  }
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(std::exchange(fd_, -1));
}

void AtomicFile::fail(std::string_view action) {
  const int error = errno;
  discard();
  throw UserError(path_.string() + ": cannot " + std::string(action) + ": " + reason(error));
}

void AtomicFile::write(const void* data, std::size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = retry([&] { return ::write(fd_, next, std::min(size, kMaxWrite)); });
    if (written < 0) fail("write");
    next += written;
    size -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  if (retry([&] { return ::fsync(fd_); }) < 0) fail("write");
  if (::rename(temporary_.c_str(), path_.c_str()) < 0) fail("replace");
  if (::close(std::exchange(fd_, -1)) < 0 && errno != EINTR) fail("write");

  // The rename itself is durable only once the folder is.
  const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // a folder may be writable and not readable
  const int synced = retry([&] { return ::fsync(folder); });
  const int error = errno;
  ::close(folder);
  errno = error;
  if (synced < 0 && errno != EINVAL) fail("write");  // EINVAL: this file system has no such thing
}

void write_file_atomically(const fs::path& path, std::span<const std::string_view> pieces) {
  AtomicFile file(path);
  for (const std::string_view piece : pieces) file.write(piece.data(), piece.size());
  file.commit();
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_file_atomically(path, std::span(&content, 1));
}

}  // namespace heed
