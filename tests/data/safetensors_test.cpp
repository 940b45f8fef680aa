// safetensors: what is written is read back; what the format forbids is refused with its reason.
#include "heed/data/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "heed/data/error.h"

namespace heed {
namespace {

namespace fs = std::filesystem;

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "heed_safetensors_XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    path_ = folder_ / "model.safetensors";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write_bytes(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  std::string read_bytes() {
    std::ifstream file(path_, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
  }

  std::string read_error() {
    try {
      read_safetensors(path_);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  fs::path folder_, path_;
};

std::string size_bytes(uint64_t size) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_size) {
  return size_bytes(header.size()) + header + std::string(data_size, '\0');
}

// {"a":{"dtype":"F32","shape":SHAPE,"data_offsets":OFFSETS}}
std::string one_tensor(const std::string& shape, const std::string& offsets,
                       const std::string& dtype = "F32") {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST_F(SafetensorsTest, EveryTypeIsReadBackBitForBit) {
  TensorMap tensors;
  const at::Tensor values = at::arange(-6, 6).reshape({3, 4});  // [3,4]
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte}) {
    tensors[std::string("t.") + c10::toString(dtype)] = values.to(dtype);
  }
  tensors["t.bool"] = values.gt(0);
  tensors["scalar"] = at::ones({}, at::kFloat);
  tensors["none"] = at::empty({0, 3}, at::kLong);
  write_safetensors(path_, tensors, {{"format", "pt"}, {"说明", "注意力 \"a\"\n"}});

  const TensorFile back = read_safetensors(path_);
  EXPECT_EQ(back.metadata,
            (std::map<std::string, std::string>{{"format", "pt"}, {"说明", "注意力 \"a\"\n"}}));
  ASSERT_EQ(back.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(back.tensors.contains(name)) << name;
    const at::Tensor& read = back.tensors.at(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(read.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(read, tensor)) << name;
  }
}

TEST_F(SafetensorsTest, ATensorOfManyReadsAndWritesIsReadBack) {
  const at::Tensor large = at::arange(5'000'000, at::kInt);  // 20 MB, and a call takes 16 MiB
  write_safetensors(path_, {{"large", large}});
  EXPECT_TRUE(at::equal(read_safetensors(path_).tensors.at("large"), large));
}

TEST_F(SafetensorsTest, NanAndInfinityKeepTheirBits) {
  const at::Tensor odd = at::empty({4}, at::kFloat);
  const uint32_t bits[4] = {0x7FC00001, 0xFF800000, 0x80000000, 0x00000001};
  std::memcpy(odd.data_ptr(), bits, sizeof(bits));
  write_safetensors(path_, {{"odd", odd}});
  const at::Tensor back = read_safetensors(path_).tensors.at("odd");
  EXPECT_EQ(std::memcmp(back.data_ptr(), bits, sizeof(bits)), 0);
}

TEST_F(SafetensorsTest, StridedTensorsAndThoseWithGradientsAreWrittenByValue) {
  const at::Tensor whole = at::randn({4, 6});
  const at::Tensor turned = whole.t();                     // [6,4]
  const at::Tensor every_other = whole.slice(1, 1, 6, 2);  // [4,3]
  const at::Tensor learned = at::randn({3}).requires_grad_();
  write_safetensors(path_, {{"a", turned}, {"b", every_other}, {"c", learned}});
  const TensorFile back = read_safetensors(path_);
  EXPECT_TRUE(at::equal(back.tensors.at("a"), turned));
  EXPECT_TRUE(at::equal(back.tensors.at("b"), every_other));
  EXPECT_TRUE(at::equal(back.tensors.at("c"), learned.detach()));
}

TEST_F(SafetensorsTest, EqualContentGivesEqualBytesAndAlignedData) {
  const TensorMap tensors = {{"half", at::ones({3}, at::kHalf)},
                             {"flag", at::ones({1}, at::kBool)},
                             {"wide", at::ones({2}, at::kDouble)}};
  write_safetensors(path_, tensors, {{"b", "2"}, {"a", "1"}});
  const std::string bytes = read_bytes();
  const std::string header = R"({"__metadata__":{"a":"1","b":"2"},)"
                             R"("wide":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},)"
                             R"("half":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},)"
                             R"("flag":{"dtype":"BOOL","shape":[1],"data_offsets":[22,23]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(bytes.substr(0, 8), size_bytes(header.size() + padding.size()));
  EXPECT_EQ(bytes.substr(8, header.size() + padding.size()), header + padding);
  write_safetensors(path_, tensors, {{"b", "2"}, {"a", "1"}});
  EXPECT_EQ(read_bytes(), bytes);
}

TEST_F(SafetensorsTest, OddButLawfulFilesAreRead) {
  write_bytes(file_of("{}", 0));
  EXPECT_EQ(read_error(), "accepted");
  write_bytes(file_of("{}        ", 0));
  EXPECT_EQ(read_error(), "accepted");
  write_bytes(file_of("{\n \"__metadata__\" : {} }", 0));
  EXPECT_EQ(read_error(), "accepted");
  write_bytes(file_of(one_tensor("[0,4294967296]", "[0,0]"), 0));
  EXPECT_EQ(read_error(), "accepted");
  // A path is only a name here; and the data may lie at an odd address.
  write_bytes(file_of(R"({"../../etc/passwd":{"shape":[1],"data_offsets":[1,5],"dtype":"F32"},)"
                      R"("":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                      5));
  EXPECT_EQ(read_safetensors(path_).tensors.at("../../etc/passwd").item<float>(), 0.0f);
  // An empty tensor between two others, at either end.
  write_bytes(file_of(R"({"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
                      R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                      R"("c":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                      R"("d":{"dtype":"U8","shape":[0],"data_offsets":[3,3]}})",
                      3));
  EXPECT_EQ(read_error(), "accepted");
}

struct BadFiles {
  struct File {
    std::string bytes, reason;
  };
  std::vector<File> all;

  void add(const std::string& bytes, const std::string& reason) { all.push_back({bytes, reason}); }
};

std::string repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

BadFiles files_with_bad_frames() {
  BadFiles files;
  const std::string good = one_tensor("[1]", "[0,4]");
  files.add("", "truncated: file has 0 bytes");
  files.add("abc", "truncated: file has 3 bytes");
  files.add(size_bytes(2), "truncated: header says 10 bytes, file has 8; copy it again");
  files.add(size_bytes(3) + "{}", "truncated: header says 11 bytes, file has 10");
  files.add(size_bytes(0), "header does not begin with '{'");
  files.add(size_bytes(100'000'001) + "{}", "exceeds 100,000,000");
  files.add(size_bytes(~uint64_t{0}) + "{}", "exceeds 100,000,000");
  files.add(size_bytes(~uint64_t{0} - 7) + "{}", "exceeds 100,000,000");
  files.add(size_bytes(uint64_t{1} << 63) + "{}", "exceeds 100,000,000");
  files.add(file_of(" {}", 0), "header does not begin with '{'");
  files.add(file_of("\xEF\xBB\xBF{}", 0), "header does not begin with '{'");
  files.add(file_of("[]", 0), "header does not begin with '{'");
  files.add(file_of("PK\x03\x04", 0), "is this a safetensors file?");
  files.add(file_of("{}\n", 0), "followed by something other than spaces");
  files.add(file_of(std::string("{}\0", 3), 0), "NUL");
  files.add(file_of(std::string("{}\0}", 4), 0), "NUL");
  files.add(file_of("{}}", 0), "not valid JSON at byte 3");
  files.add(file_of("{} {}", 0), "not valid JSON");
  files.add(file_of("{", 0), "followed by something other than spaces");
  files.add(file_of("{\"a\":}", 0), "not valid JSON");
  files.add(file_of("{'a':{}}", 0), "not valid JSON");
  files.add(file_of("{/**/}", 0), "not valid JSON");
  files.add(file_of("{\"a\xFF\":{}}", 0), "not UTF-8 at byte 3");
  files.add(file_of("{\"\xC0\xAF\":{}}", 0), "not UTF-8 at byte 2");
  files.add(file_of("{\"\xED\xA0\x80\":{}}", 0), "not UTF-8 at byte 2");
  files.add(file_of("{\"\\ud800\":{}}", 0), "not valid JSON");
  files.add(file_of(good, 3), "truncated: tensors need 4 bytes, file has 3; copy it again");
  files.add(file_of(good, 5), "1 bytes after the last tensor");
  files.add(file_of("{}", 1), "1 bytes after the last tensor");
  return files;
}

BadFiles files_with_bad_grammar() {
  BadFiles files;
  const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  files.add(file_of("{" + a + "," + a + "}", 4), "key \"a\" appears twice");
  files.add(file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
            "\"__metadata__\" appears twice");
  files.add(file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0), "key \"k\" appears twice");
  files.add(file_of(R"({"__metadata__":{"k":"1","\u006b":"2"}})", 0), "key \"k\" appears twice");
  files.add(file_of(R"({"__metadata__":{"k":1}})", 0),
            "map strings to strings, but holds a number");
  files.add(file_of(R"({"__metadata__":{"k":null}})", 0), "but holds null");
  files.add(file_of(R"({"__metadata__":{"k":{"l":"m"}}})", 0), "but holds an object");
  files.add(file_of(R"({"__metadata__":["k"]})", 0), "but holds a list");
  files.add(file_of(R"({"__metadata__":"k"})", 0), "but holds a string");
  files.add(file_of(R"({"a":[]})", 0), "must be an object, not a list");
  files.add(file_of(R"({"a":true})", 0), "must be an object, not a boolean");
  files.add(file_of(R"({"a":{}})", 0), "no field \"dtype\"");
  files.add(file_of(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "no field \"data_offsets\"");
  files.add(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "no field \"shape\"");
  files.add(file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
            "field \"dtype\" appears twice");
  files.add(file_of(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4),
            "field \"shape\" appears twice");
  files.add(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}})", 4),
            "unknown field \"extra\"");
  files.add(file_of(R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4),
            "dtype must be a string, not a number");
  files.add(file_of(R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4),
            "shape must be a list");
  files.add(file_of(one_tensor("[[1]]", "[0,4]"), 4),
            "shape must be a list of non-negative integers");
  files.add(file_of(one_tensor("[\"1\"]", "[0,4]"), 4), "but holds a string");
  files.add(file_of(one_tensor("[-1]", "[0,4]"), 4), "but holds a negative number");
  files.add(file_of(one_tensor("[1.0]", "[0,4]"), 4),
            "but holds a number that is no 64-bit integer");
  files.add(file_of(one_tensor("[1e0]", "[0,4]"), 4),
            "but holds a number that is no 64-bit integer");
  files.add(file_of(one_tensor("[1]", "[0]"), 4), "must be two non-negative integers");
  files.add(file_of(one_tensor("[1]", "[0,4,4]"), 4), "must be two non-negative integers");
  files.add(file_of(one_tensor("[1]", "[-4,0]"), 4), "but holds a negative number");
  files.add(file_of(one_tensor("[1]", "{}"), 4), "must be two non-negative integers");
  files.add(file_of(R"({"a\u0000b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
            "name holds a NUL");
  files.add(file_of("{\"a\":" + repeat("[", 100'000) + repeat("]", 100'000) + "}", 0),
            "must be an object, not a list");
  files.add(file_of("{\"a\":" + repeat("{\"a\":", 100'000) + "1" + repeat("}", 100'000) + "}", 0),
            "unknown field \"a\"");
  return files;
}

BadFiles files_with_bad_layouts() {
  BadFiles files;
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
  };
  files.add(file_of(one_tensor("[1]", "[0,4]", "F128"), 4), "unknown dtype \"F128\"");
  files.add(file_of(one_tensor("[1]", "[0,4]", "f32"), 4), "unknown dtype \"f32\"");
  files.add(file_of(one_tensor("[1]", "[0,4]", ""), 4), "unknown dtype \"\"");
  files.add(file_of(one_tensor("[2]", "[0,4]"), 4), "need 8 bytes, data_offsets give 4");
  files.add(file_of(one_tensor("[1]", "[0,8]"), 8), "need 4 bytes, data_offsets give 8");
  files.add(file_of(one_tensor("[0]", "[0,4]"), 4), "need 0 bytes, data_offsets give 4");
  files.add(file_of(one_tensor("[]", "[0,0]"), 0), "need 4 bytes, data_offsets give 0");
  files.add(file_of(one_tensor("[1]", "[4,0]"), 4), "data end before they begin");
  files.add(file_of(one_tensor("[1]", "[18446744073709551612,0]"), 4),
            "data end before they begin");
  files.add(file_of(one_tensor("[1]", "[0,18446744073709551616]"), 4), "no 64-bit integer");
  files.add(file_of(one_tensor("[4294967296,4294967296]", "[0,0]"), 0), "shape is too large");
  files.add(file_of(one_tensor("[0,4294967296,4294967296]", "[0,0]"), 0), "shape is too large");
  files.add(file_of(one_tensor("[9223372036854775807,2,2]", "[0,4]"), 4), "shape is too large");
  files.add(file_of(one_tensor("[18446744073709551615]", "[0,4]"), 4), "shape is too large");
  files.add(file_of(one_tensor("[4611686018427387905]", "[0,4]"), 4), "shape is too large");
  files.add(file_of(one_tensor("[1" + repeat(",1", 100'000) + "]", "[0,4]"), 4),
            "more than 64 dimensions");
  files.add(file_of(one_tensor("[1]", "[4,8]"), 8), "unused bytes before its data");
  files.add(file_of(two("[0,2]", "[3,5]"), 5), "\"b\": unused bytes before its data");
  files.add(file_of(two("[0,2]", "[1,3]"), 3), "\"b\": data overlap another tensor's");
  files.add(file_of(two("[0,2]", "[0,2]"), 2), "\"b\": data overlap another tensor's");
  files.add(file_of(two("[0,2]", "[2,4]"), 3), "truncated: tensors need 4 bytes");
  files.add(file_of(one_tensor("[1073741824]", "[0,4294967296]"), 16),
            "truncated: tensors need 4294967296 bytes");
  const std::string flags = one_tensor("[2]", "[0,2]", "BOOL");
  files.add(size_bytes(flags.size()) + flags + "\x01\x02", "a BOOL is neither 0 nor 1");
  return files;
}

TEST_F(SafetensorsTest, EveryForbiddenFileIsRefusedWithItsReason) {
  int count = 0;
  for (const auto& files :
       {files_with_bad_frames(), files_with_bad_grammar(), files_with_bad_layouts()}) {
    for (const BadFiles::File& bad : files.all) {
      write_bytes(bad.bytes);
      const std::string error = read_error();
      const std::string shown = bad.bytes.substr(0, 120);
      EXPECT_NE(error.find(bad.reason), std::string::npos) << shown << "\n-> " << error;
      EXPECT_EQ(error.find(path_.string() + ": "), 0u) << error;
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
      EXPECT_LT(error.size(), 400u) << error;
      ++count;
    }
  }
  EXPECT_GE(count, 80);
}

TEST_F(SafetensorsTest, EveryShorterAndEveryLongerFileIsRefused) {
  write_safetensors(path_, {{"a", at::ones({3}, at::kFloat)}, {"b", at::ones({2}, at::kByte)}});
  const std::string whole = read_bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(whole.substr(0, size));
    EXPECT_NE(read_error().find("truncated"), std::string::npos) << size;
  }
  write_bytes(whole + '\0');
  EXPECT_NE(read_error().find("after the last tensor"), std::string::npos);
}

TEST_F(SafetensorsTest, AFlippedHeaderBitNeverCrashesAndNeverReadsPastTheFile) {
  write_safetensors(path_, {{"a", at::ones({3}, at::kFloat)}, {"b", at::ones({2}, at::kLong)}},
                    {{"k", "v"}});
  const std::string whole = read_bytes();
  const std::size_t header_end = whole.size() - 28;
  int refused = 0;
  for (std::size_t at = 0; at < header_end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      write_bytes(changed);
      const std::string error = read_error();
      refused += error != "accepted";
    }
  }
  EXPECT_GT(refused, static_cast<int>(header_end) * 4);  // a name or a value may change unseen
}

TEST_F(SafetensorsTest, WhatIsNoFileIsRefused) {
  EXPECT_NE(read_error().find("cannot open: No such file"), std::string::npos);
  fs::create_directory(path_);
  EXPECT_NE(read_error().find("not a file"), std::string::npos);
  fs::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_NE(read_error().find("not a file"), std::string::npos);  // and does not wait for a writer
}

TEST_F(SafetensorsTest, WhatCannotBeStoredIsRefusedAndNothingWritten) {
  const at::Tensor one = at::ones({1});
  const auto error_of = [&](const TensorMap& tensors,
                            const std::map<std::string, std::string>& metadata) {
    try {
      write_safetensors(path_, tensors, metadata);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("written");
  };
  EXPECT_NE(error_of({{"c", one.to(at::kComplexFloat)}}, {}).find("ComplexFloat cannot be stored"),
            std::string::npos);
  EXPECT_NE(error_of({{"__metadata__", one}}, {}).find("cannot be named"), std::string::npos);
  EXPECT_NE(error_of({{std::string("a\0b", 3), one}}, {}).find("NUL"), std::string::npos);
  EXPECT_NE(error_of({{"\xFF", one}}, {}).find("not UTF-8"), std::string::npos);
  EXPECT_NE(error_of({{"a", one}}, {{"k", "\xFF"}}).find("not UTF-8"), std::string::npos);
  EXPECT_FALSE(fs::exists(path_));
}

}  // namespace
}  // namespace heed
