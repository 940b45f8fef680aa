// SHA-256 against the published test vectors.
#include "heed/data/digest.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "heed/data/error.h"

namespace heed {
namespace {

TEST(Digest, EqualsThePublishedVectors) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, OfAFileEqualsThatOfItsBytes) {
  const auto path = std::filesystem::path(testing::TempDir()) / "heed_digest_test";
  const std::string bytes(3'000'001, 'a');  // more than one buffer, and not a multiple of it
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(sha256_of_file(path), sha256(bytes));
  std::filesystem::remove(path);
}

TEST(Digest, OfAMissingFileOrAFolderIsAUserError) {
  EXPECT_THROW(sha256_of_file("/nowhere/file"), UserError);
  EXPECT_THROW(sha256_of_file("/"), UserError);
}

}  // namespace
}  // namespace heed
