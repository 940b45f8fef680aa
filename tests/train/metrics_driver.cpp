// Scores segments from standard input for comparison with sacreBLEU: JSON lines {"hyp": "...",
// "refs": ["...", ...]}. Prints the scores of all together and of each alone. Usage:
// heed_metrics_driver [13a|zh|none] [lowercase]
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "heed/train/bleu.h"
#include "heed/train/chrf.h"

namespace {

nlohmann::json scores(std::span<const std::string> hypotheses,
                      std::span<const heed::References> references,
                      const heed::BleuOptions& options) {
  const heed::BleuScore bleu = heed::corpus_bleu(hypotheses, references, options);
  const heed::ChrfScore chrf = heed::corpus_chrf(hypotheses, references, options.lowercase);
  return {
      {"bleu",
       {{"score", bleu.score},
        {"precisions", bleu.precisions},
        {"matches", bleu.matches},
        {"totals", bleu.totals},
        {"bp", bleu.brevity_penalty},
        {"ratio", bleu.length_ratio()},
        {"hyp_len", bleu.hypothesis_length},
        {"ref_len", bleu.reference_length},
        {"signature", bleu.signature},
        {"text", bleu.to_string()}}},
      {"chrf", {{"score", chrf.score}, {"signature", chrf.signature}, {"text", chrf.to_string()}}}};
}

}  // namespace

int main(int argc, char** argv) try {
  heed::BleuOptions options;
  if (argc > 1) options.tokenizer = heed::bleu_tokenizer_named(argv[1]);
  options.lowercase = argc > 2 && std::string(argv[2]) == "lowercase";

  std::vector<std::string> hypotheses;
  std::vector<heed::References> references;
  for (std::string line; std::getline(std::cin, line);) {
    const auto segment = nlohmann::json::parse(line);
    hypotheses.push_back(segment.at("hyp"));
    references.push_back(segment.at("refs"));
  }

  nlohmann::json result = {{"corpus", scores(hypotheses, references, options)}};
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    result["segments"].push_back(scores({&hypotheses[i], 1}, {&references[i], 1}, options));
    result["tokens"].push_back(heed::tokenize(hypotheses[i], options.tokenizer));
  }
  std::cout << result << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 2;
}
