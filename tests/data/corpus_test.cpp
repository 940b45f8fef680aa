// Lines, sentence pairs, subwords and batches: from files to tensors.
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "heed/data/data_sets.h"
#include "heed/data/digest.h"
#include "heed/data/error.h"
#include "heed/data/lines.h"
#include "heed/data/parallel_corpus.h"
#include "heed/data/subwords.h"
#include "heed/data/translation_batches.h"
#include "tests/temporary_folder.h"

namespace heed {
namespace {

class Corpus : public testing::Test {
 protected:
  std::filesystem::path file(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  template <class Call>
  std::string error_of(Call call) {
    try {
      call();
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  const TemporaryFolder folder_;
};

using Lines = std::vector<std::string>;

TEST_F(Corpus, LinesComeWithoutTheirEndsOrAByteOrderMark) {
  EXPECT_EQ(read_lines(file("a", "\xEF\xBB\xBFone\r\ntwo\n\nfour")),
            (Lines{"one", "two", "", "four"}));
  EXPECT_EQ(read_lines(file("b", "")), Lines{});
  EXPECT_EQ(read_lines(file("c", "end\n")), Lines{"end"});
}

TEST_F(Corpus, GzipIsReadLikePlainText) {
  const std::string path = (folder_ / "z.gz").string();
  gzFile out = gzopen(path.c_str(), "wb");
  gzputs(out, "一\n二\n");
  gzclose(out);
  EXPECT_EQ(read_lines(path), (Lines{"一", "二"}));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 9);
  EXPECT_NE(error_of([&] { read_lines(path); }).find("broken gzip"), std::string::npos);
}

TEST_F(Corpus, ALineThatIsNotUtf8IsNamed) {
  const auto path = file("bad",
                         "fine\nab\xff"
                         "c\n");
  EXPECT_NE(error_of([&] { read_lines(path); }).find(":2: not UTF-8 at byte 3"), std::string::npos);
  EXPECT_NE(error_of([&] { read_lines(folder_ / "none"); }).find("no such file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_lines(folder_.path()); }).find("folder"), std::string::npos);
}

TEST_F(Corpus, TheSplitIsByTheHashOfTheSource) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += "sentence " + std::to_string(i) + "\tx" + std::to_string(i) + "\tnote\n";
    if (i % 3 == 0)
      text += "sentence " + std::to_string(i) + "\tother" + std::to_string(i) + "\tnote\n";
  }
  file("pairs.tsv", text);
  const ParallelCorpusOptions options{.file = "pairs.tsv"};
  std::set<std::string> seen;
  size_t total = 0;
  for (const Split split : {Split::kTrain, Split::kDev, Split::kTest}) {
    const auto pairs = load_pairs(options, folder_.path(), split);
    total += pairs.size();
    std::set<std::string> own;
    for (const SentencePair& pair : pairs) own.insert(pair.source);
    for (const std::string& source : own) EXPECT_TRUE(seen.insert(source).second) << source;
    if (split != Split::kTrain) {
      EXPECT_NEAR(static_cast<double>(own.size()), 60, 25);
    }
  }
  EXPECT_EQ(total, 4000);
  // The rule that the documentation states: first 8 hexadecimal digits of SHA-256, modulo 100.
  EXPECT_EQ(sha256("I love you.").substr(0, 8), "387945ca");
  EXPECT_EQ(split_of("I love you.", 2, 2), Split::kTrain);
}

TEST_F(Corpus, AllTranslationsOfASourceAreItsReferences) {
  const auto items = group_by_source({{"a", "1"}, {"b", "2"}, {"a", "3"}, {"a", "1"}});
  ASSERT_EQ(items.size(), 2);
  EXPECT_EQ(items[0].references, (Lines{"1", "3"}));
  EXPECT_EQ(items[1].references, Lines{"2"});
}

TEST_F(Corpus, FilesOfUnequalLengthAreRefusedWithBothLengths) {
  file("s", "a\nb\n");
  file("t", "x\n");
  const ParallelCorpusOptions options{.train = {"s", "t"}};
  const std::string error = error_of([&] { load_pairs(options, folder_.path(), Split::kTrain); });
  EXPECT_NE(error.find("2 lines"), std::string::npos) << error;
  EXPECT_NE(error.find("has 1;"), std::string::npos) << error;
}

TEST_F(Corpus, ALineWithoutItsColumnsIsNamed) {
  file("p.tsv", "a\tb\nonly one\n");
  const std::string error =
      error_of([&] { load_pairs({.file = "p.tsv"}, folder_.path(), Split::kTrain); });
  EXPECT_NE(error.find("p.tsv:2: expected text in columns 1 and 2"), std::string::npos);
}

TEST_F(Corpus, MissingDataSaysItsHomeAndChecksum) {
  const std::string error =
      error_of([&] { require_data(folder_.path(), "tatoeba_cmn_eng/cmn.txt.gz"); });
  EXPECT_NE(error.find("manythings.org/anki"), std::string::npos);
  EXPECT_NE(error.find("bbdcddc329b9b544"), std::string::npos);
  EXPECT_NE(error_of([&] { require_data("", "x"); }).find("HEED_DATA"), std::string::npos);
}

TEST(TextRules, PutTextIntoOneForm) {
  const TextRules chinese{
      .simplified_chinese = true, .chinese_punctuation = true, .plain_you = true};
  EXPECT_EQ(chinese.apply(" 我愛您. "), "我爱你。");
  EXPECT_EQ(chinese.apply("妳好嗎?"), "你好吗？");
  EXPECT_EQ(chinese.apply("等等..."), "等等...");
  EXPECT_EQ(TextRules{.lowercase = true}.apply("ÄB c"), "äb c");
  EXPECT_EQ(TextRules{}.apply("  \t"), "");
}

TEST(Subwords, RoundTripAndMarks) {
  Lines lines;
  for (int i = 0; i < 200; ++i) lines.push_back("the cat number " + std::to_string(i) + " sat");
  for (const char* type : {"unigram", "bpe", "char"}) {
    const Subwords subwords = Subwords::train(lines, {.vocabulary = 60, .type = type});
    EXPECT_LE(subwords.size(), 60);
    auto ids = subwords.encode("the cat sat");
    EXPECT_EQ(subwords.decode(ids), "the cat sat") << type;
    ids.insert(ids.begin(), Subwords::kBegin);
    ids.push_back(Subwords::kEnd);
    ids.push_back(Subwords::kPad);
    EXPECT_EQ(subwords.decode(ids), "the cat sat");
  }
}

TEST(Subwords, TheSameLinesGiveTheSameModel) {
  const Lines lines = {"a b c d", "b c d e", "aa bb cc", "dd ee ff"};
  const SubwordOptions options{.vocabulary = 24};
  const auto first = Subwords::train(lines, options), second = Subwords::train(lines, options);
  EXPECT_EQ(first.encode("aa c ff"), second.encode("aa c ff"));
  EXPECT_EQ(first.size(), second.size());
}

TEST(Subwords, IdentityKeepsFullWidthPunctuation) {
  const Lines lines = {"你好，世界！", "再见。"};
  const SubwordOptions options{
      .vocabulary = 40, .type = "char", .normalization = "identity", .leading_space = false};
  const Subwords subwords = Subwords::train(lines, options);
  EXPECT_EQ(subwords.decode(subwords.encode("你好，再见！")), "你好，再见！");
  EXPECT_EQ(subwords.encode("你好").size(), 2);
}

TEST(Subwords, AnUnknownTypeIsRefused) {
  EXPECT_THROW(Subwords::train({"a"}, {.type = "bpee"}), UserError);
}

std::vector<EncodedPair> random_pairs(size_t count) {
  std::vector<EncodedPair> pairs;
  for (size_t i = 0; i < count; ++i) {
    pairs.push_back({std::vector<int64_t>(1 + i * 7 % 11, 5), std::vector<int64_t>(i * 5 % 13, 6)});
  }
  return pairs;
}

TEST(Batches, HoldEachPairOnceWithinTheBound) {
  const auto pairs = random_pairs(500);
  const auto plan = plan_batches(pairs, 60, 3);
  std::set<size_t> seen;
  for (const auto& batch : plan) {
    size_t longest = 0;
    for (const size_t index : batch) {
      EXPECT_TRUE(seen.insert(index).second);
      longest = std::max(longest, pairs[index].target.size() + 1);
    }
    EXPECT_LE(longest * batch.size(), 60);
  }
  EXPECT_EQ(seen.size(), pairs.size());
  EXPECT_EQ(plan, plan_batches(pairs, 60, 3));
  EXPECT_NE(plan, plan_batches(pairs, 60, 4));
}

TEST(Batches, APairLongerThanTheBoundGoesAlone) {
  const std::vector<EncodedPair> pairs = {{{1}, std::vector<int64_t>(100, 5)}, {{1}, {5}}};
  EXPECT_EQ(plan_batches(pairs, 10, 1).size(), 2);
}

TEST(Batches, TensorsCarryMarksAndPadding) {
  const std::vector<EncodedPair> pairs = {{{7, 8}, {9}}, {{5}, {6, 4, 4}}};
  const TranslationBatch batch = make_batch(pairs, {0, 1});
  EXPECT_EQ(batch.source.sizes(), (at::IntArrayRef{2, 2}));
  EXPECT_EQ(batch.source[1][1].item<int64_t>(), Subwords::kPad);
  EXPECT_EQ(batch.source_lengths[1].item<int64_t>(), 1);
  EXPECT_EQ(batch.target_in[0][0].item<int64_t>(), Subwords::kBegin);
  EXPECT_EQ(batch.target_in[0][1].item<int64_t>(), 9);
  EXPECT_EQ(batch.target_out[0][0].item<int64_t>(), 9);
  EXPECT_EQ(batch.target_out[0][1].item<int64_t>(), Subwords::kEnd);
  EXPECT_EQ(batch.target_out[0][2].item<int64_t>(), Subwords::kPad);
  EXPECT_EQ(batch.target_tokens, 2 + 4);
}

}  // namespace
}  // namespace heed
