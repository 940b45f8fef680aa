// Atomic files: the reader sees the old or the new one, whatever happens to the writer.
#include "heed/data/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>

#include "heed/data/error.h"

namespace heed {
namespace {

namespace fs = std::filesystem;

class AtomicFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "heed_atomic_XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
};

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

std::ptrdiff_t files_in(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

std::string error_of(const auto& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// Runs `body` in a child process; true where it returned true.
bool in_child(const auto& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(AtomicFileTest, WritesPiecesInOrderAndReplacesTheOldFile) {
  const fs::path path = folder_ / "file";
  write_file_atomically(path, "an older and longer content");
  const std::array<std::string_view, 3> pieces = {"one ", "", "two"};
  write_file_atomically(path, pieces);
  EXPECT_EQ(content(path), "one two");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, WithoutCommitTheOldFileStays) {
  const fs::path path = folder_ / "file";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("new", 3);
    EXPECT_EQ(content(path), "old");
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, AFileNameWithoutFolderIsInTheCurrentOne) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  write_file_atomically("plain", "x");
  fs::current_path(before);
  EXPECT_EQ(content(folder_ / "plain"), "x");
}

TEST_F(AtomicFileTest, EachFailureIsOneLineWithPathAndReason) {
  EXPECT_EQ(error_of([] { write_file_atomically("/nowhere/at/all", "x"); }),
            "/nowhere/at/all: cannot open: the folder does not exist; create it first");
  fs::create_directory(folder_ / "taken");
  EXPECT_EQ(error_of([&] { write_file_atomically(folder_ / "taken", "x"); }),
            (folder_ / "taken").string() +
                ": cannot replace: there is a folder of that name; choose another name");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, AWriteBeyondTheSizeLimitLeavesTheOldFileAlone) {
  const fs::path path = folder_ / "file";
  write_file_atomically(path, "old");
  EXPECT_TRUE(in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};  // the first write is short, the second fails
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error =
        error_of([&] { write_file_atomically(path, std::string(5000, 'x')); });
    return error.find("cannot write: the file is larger") != std::string::npos;
  }));
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, AFullDiskLeavesTheOldFileAlone) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  // A small disk of its own, seen by the child alone.
  const auto mount_disk = [&] {
    return (::unshare(CLONE_NEWNS) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
           ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") == 0;
  };
  if (!in_child(mount_disk)) GTEST_SKIP() << "this user may not mount a disk";
  EXPECT_TRUE(in_child([&] {
    if (!mount_disk()) return false;
    write_file_atomically(disk / "file", "old");
    const std::string error =
        error_of([&] { write_file_atomically(disk / "file", std::string(1 << 20, 'x')); });
    return error.find("cannot write: no space left on the disk; free some") != std::string::npos &&
           content(disk / "file") == "old" && files_in(disk) == 1;
  }));
}

TEST_F(AtomicFileTest, ATemporaryInUseIsNotTakenForAbandoned) {
  const fs::path path = folder_ / "file";
  AtomicFile first(path);
  first.write("first", 5);
  write_file_atomically(path, "second");
  EXPECT_EQ(content(path), "second");
  first.commit();
  EXPECT_EQ(content(path), "first");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, AnotherFilesTemporaryIsLeftAlone) {
  std::ofstream(folder_ / ".other.1-1.tmp") << "x";
  std::ofstream(folder_ / ".file.1-1.tmp") << "x";
  write_file_atomically(folder_ / "file", "y");
  EXPECT_TRUE(fs::exists(folder_ / ".other.1-1.tmp"));
  EXPECT_FALSE(fs::exists(folder_ / ".file.1-1.tmp"));
}

TEST_F(AtomicFileTest, KillingTheWriterAtAnyTimeLeavesAWholeFileAndNoLitter) {
  const fs::path path = folder_ / "file";
  constexpr std::size_t kSize = 300'000;
  write_file_atomically(path, std::string(kSize, 'a'));
  std::size_t changed = 0;
  for (int round = 0; round < 50; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (char letter = 'b';; letter = letter == 'z' ? 'b' : static_cast<char>(letter + 1)) {
        const std::string half(kSize / 2, letter);
        const std::array<std::string_view, 2> pieces = {half, half};
        write_file_atomically(path, pieces);
      }
    }
    ::usleep(static_cast<useconds_t>(500 + 397 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string found = content(path);
    ASSERT_EQ(found.size(), kSize) << "round " << round;
    ASSERT_EQ(found.find_first_not_of(found[0]), std::string::npos) << "round " << round;
    changed += found[0] != 'a';
  }
  EXPECT_GT(changed, 0u);  // else the writer was killed before it wrote anything, each time
  write_file_atomically(path, "end");
  EXPECT_EQ(files_in(folder_), 1);
}

TEST_F(AtomicFileTest, ADeviceOrAPipeIsRefusedAndStays) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(write_file_atomically(pipe, "text"), UserError);
  EXPECT_TRUE(fs::is_fifo(pipe));
}

TEST_F(AtomicFileTest, BehindALinkItsTargetIsReplaced) {
  write_file_atomically(folder_ / "target", "old");
  fs::create_symlink(folder_ / "target", folder_ / "link");
  write_file_atomically(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(content(folder_ / "target"), "new");
}

}  // namespace
}  // namespace heed
