// Learning to translate: `heed train` with `task: translation`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "heed/data/subwords.h"
#include "heed/data/translation_batches.h"
#include "heed/models/translator.h"
#include "heed/train/trainer.h"

namespace heed::train {

struct TranslationTraining {
  std::string task = "translation";
  std::string output;  // the model's folder
  std::string source_language = "source", target_language = "target";
  ParallelCorpusOptions data;
  SubwordOptions source_subwords, target_subwords;
  models::RnnTranslatorOptions model;
  int64_t batch_tokens = 2000;   // target tokens a batch, padding included
  int64_t longest = 100;         // subwords; longer training pairs are left out
  double label_smoothing = 0.1;  // Szegedy 2016
  double subword_sampling = 0;   // Kudo 2018: alpha of the source's cuts; 0 cuts always alike
  double length_penalty = 1.0;   // of the search, kept with the model
  bool half_precision = false;   // of the weights that are saved
  TrainingOptions training;

  template <class Visitor>
  void visit(Visitor& v) {
    v("task", task);
    v("output", output);
    v("source_language", source_language);
    v("target_language", target_language);
    v("data", data);
    v("source_subwords", source_subwords);
    v("target_subwords", target_subwords);
    v("model", model);
    v("batch_tokens", batch_tokens, {1, 1e9});
    v("longest", longest, {1, 100000});
    v("label_smoothing", label_smoothing, {0, 0.9});
    v("subword_sampling", subword_sampling, {0, 10});
    v("length_penalty", length_penalty, {0, 10});
    v("half_precision", half_precision);
    v("training", training);
  }
};

// Reads the corpus below `data_folder`, learns the subwords and trains into config.output.
Outcome train_translation(const TranslationTraining& config,
                          const std::filesystem::path& data_folder, Start start);

}  // namespace heed::train
