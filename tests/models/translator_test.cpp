#include "heed/models/translator.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "heed/data/error.h"
#include "heed/models/parameters.h"
#include "tests/temporary_folder.h"

namespace heed::models {
namespace {

Translator small_translator() {
  std::vector<std::string> lines;
  for (int i = 0; i < 50; ++i) lines.push_back("we see " + std::to_string(i) + " small birds fly");
  TranslatorConfig config;
  config.model.embedding_size = config.model.encoder_size = 8;
  config.model.decoder_size = config.model.attention_size = 8;
  config.data.source.lowercase = true;
  const SubwordOptions options{.vocabulary = 40, .type = "char"};
  at::manual_seed(1);
  return {config, Subwords::train(lines, options), Subwords::train(lines, options)};
}

std::vector<std::vector<Translation>> sample(Translator& translator) {
  return translator.translate(
      {translator.encode_source("We see birds"), translator.encode_source("fly"),
       translator.encode_source("we see 12 small birds fly")},
      {.beam = 3, .n_best = 2, .max_length = 9}, nn::Weights::kReturn);
}

TEST(Translator, ASavedFolderTranslatesAlike) {
  const TemporaryFolder folder;
  Translator translator = small_translator();
  translator.save_description(folder.path());
  translator.save_weights(folder.path(), at::kFloat);
  Translator loaded = Translator::load(folder.path());
  const auto before = sample(translator), after = sample(loaded);
  for (size_t i = 0; i < before.size(); ++i) {
    ASSERT_EQ(before[i].size(), 2);
    for (size_t n = 0; n < 2; ++n) {
      EXPECT_EQ(before[i][n].text, after[i][n].text);
      EXPECT_EQ(before[i][n].score, after[i][n].score);
      EXPECT_EQ(before[i][n].weights, after[i][n].weights);
    }
  }
}

TEST(Translator, EveryRowOfWeightsIsADistributionOverItsOwnSource) {
  Translator translator = small_translator();
  for (const auto& translations : sample(translator)) {
    for (const Translation& translation : translations) {
      const size_t S = translation.source_tokens.size(), T = translation.target_tokens.size();
      ASSERT_EQ(translation.weights.size(), T * S);
      for (size_t t = 0; t < T; ++t) {
        float sum = 0;
        for (size_t s = 0; s < S; ++s) sum += translation.weights[t * S + s];
        EXPECT_NEAR(sum, 1, 1e-5);
      }
    }
  }
}

TEST(Translator, HalfPrecisionIsReadBack) {
  const TemporaryFolder folder;
  Translator translator = small_translator();
  translator.save_description(folder.path());
  translator.save_weights(folder.path(), at::kHalf);
  const NamedTensors before = named_tensors(*translator.model());
  for (const auto& [name, tensor] : named_tensors(*Translator::load(folder.path()).model())) {
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    EXPECT_TRUE(tensor.equal(before.at(name).to(at::kHalf).to(at::kFloat))) << name;
  }
}

void expect_refused(const std::filesystem::path& folder, const std::string& hint) {
  try {
    Translator::load(folder);
    FAIL() << "accepted; expected a message with: " << hint;
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(hint), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

TEST(Translator, ABrokenFolderIsRefusedWithItsReason) {
  const TemporaryFolder folder;
  expect_refused(folder / "none", "no such model folder");
  Translator translator = small_translator();
  translator.save_description(folder.path());
  expect_refused(folder.path(), "model.safetensors");
  translator.save_weights(folder.path(), at::kFloat);
  std::filesystem::resize_file(folder / "model.safetensors", 5000);
  expect_refused(folder.path(), "model.safetensors");
  translator.save_weights(folder.path(), at::kFloat);
  std::ofstream(folder / "target.spm") << "no model";
  expect_refused(folder.path(), "target.spm");
  translator.save_description(folder.path());
  std::ofstream(folder / "config.json") << R"({"model": {"dropuot": 0.1}})";
  expect_refused(folder.path(), "did you mean 'dropout'");
}

TEST(Translator, SourcesThatCannotBeReadAreRefused) {
  const Translator translator = small_translator();
  EXPECT_THROW(translator.encode_source(""), UserError);
  EXPECT_THROW(translator.encode_source("  \t "), UserError);
  EXPECT_THROW(translator.encode_source("\xff\xfe"), UserError);
  std::string long_line;
  for (int i = 0; i < 10000; ++i) long_line += "bird ";
  EXPECT_THROW(translator.encode_source(long_line), UserError);
}

}  // namespace
}  // namespace heed::models
