#include "heed/models/rnn_translator.h"

#include <ATen/Context.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/grad_mode.h>

#include "heed/data/error.h"

namespace heed::models {
namespace {

RnnTranslatorOptions small() {
  RnnTranslatorOptions options;
  options.source_vocabulary = 20;
  options.target_vocabulary = 15;
  options.embedding_size = 8;
  options.encoder_size = 6;
  options.decoder_size = 12;
  options.attention_size = 7;
  options.dropout = 0;
  return options;
}

std::vector<RnnTranslatorOptions> variants() {
  std::vector<RnnTranslatorOptions> all;
  for (const char* cell : {"gru", "lstm"}) {
    for (const char* attention : {"additive", "general", "dot"}) {
      RnnTranslatorOptions options = small();
      options.cell = cell;
      options.attention = attention;
      all.push_back(options);
    }
  }
  all.push_back(small());
  all.back().encoder_layers = 2;
  all.back().decoder_layers = 3;
  all.back().tie_output = false;
  return all;
}

const at::Tensor kLengths = at::tensor({5, 2, 4}, at::kLong);  // [B]

at::Tensor random_ids(at::IntArrayRef sizes, int64_t vocabulary) {
  return at::randint(4, vocabulary, sizes, at::kLong);
}

TEST(RnnTranslator, TeacherForcingEqualsStepByStep) {
  for (const RnnTranslatorOptions& options : variants()) {
    at::manual_seed(1);
    RnnTranslator model(options);
    model->eval();
    const at::NoGradGuard no_grad;
    const at::Tensor source = random_ids({3, 5}, 20), target = random_ids({3, 6}, 15);
    const at::Tensor whole = model(source, kLengths, target);  // [B,T,E]
    auto [memory, state] = model->encode(source, kLengths);
    for (int64_t t = 0; t < 6; ++t) {
      at::Tensor weights;
      const at::Tensor readout = model->step(target.select(1, t), memory, state, &weights);
      EXPECT_TRUE(readout.allclose(whole.select(1, t), 1e-5, 1e-6)) << options.cell << t;
      EXPECT_TRUE(weights.sum(1).allclose(at::ones({3}), 1e-5, 1e-5));
      EXPECT_EQ(weights[1].narrow(0, 2, 3).abs().max().item<float>(), 0);  // beyond the length
    }
  }
}

TEST(RnnTranslator, PaddingChangesNothing) {
  for (const RnnTranslatorOptions& options : variants()) {
    at::manual_seed(2);
    RnnTranslator model(options);
    model->eval();
    const at::NoGradGuard no_grad;
    at::Tensor source = random_ids({3, 5}, 20);
    const at::Tensor target = random_ids({3, 4}, 15);
    const at::Tensor before = model(source, kLengths, target);
    source = source.clone();
    source[1].narrow(0, 2, 3).fill_(9);
    EXPECT_TRUE(before.equal(model(source, kLengths, target)));
    const at::Tensor alone = model(source.narrow(0, 1, 1).narrow(1, 0, 2), kLengths.narrow(0, 1, 1),
                                   target.narrow(0, 1, 1));
    EXPECT_TRUE(alone.allclose(before.narrow(0, 1, 1), 1e-5, 1e-6));
  }
}

TEST(RnnTranslator, EveryParameterLearns) {
  for (const RnnTranslatorOptions& options : variants()) {
    at::manual_seed(3);
    RnnTranslator model(options);
    const at::Tensor readouts = model(random_ids({3, 5}, 20), kLengths, random_ids({3, 4}, 15));
    model->logits(readouts).square().sum().backward();
    for (const auto& item : model->named_parameters()) {
      ASSERT_TRUE(item.value().grad().defined()) << item.key();
      EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
    }
  }
}

TEST(RnnTranslator, RefusesOptionsThatDoNotFit) {
  RnnTranslatorOptions options = small();
  options.cell = "gruu";
  EXPECT_THROW(RnnTranslator{options}, UserError);
  options = small();
  options.attention = "dot";
  options.decoder_size = 10;
  EXPECT_THROW(RnnTranslator{options}, UserError);
}

}  // namespace
}  // namespace heed::models
