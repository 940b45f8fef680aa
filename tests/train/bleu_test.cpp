// BLEU: tokens, counts and scores, with values computed by sacreBLEU 2.6.0.
#include "heed/train/bleu.h"

#include <gtest/gtest.h>

#include "heed/data/error.h"

namespace heed {
namespace {

using Tokens = std::vector<std::string>;

TEST(Tokenize13a, SeparatesMarksButNotNumbers) {
  EXPECT_EQ(tokenize("It costs 1,000.50 dollars, he said.", BleuTokenizer::k13a),
            (Tokens{"It", "costs", "1,000.50", "dollars", ",", "he", "said", "."}));
}

}  // namespace
}  // namespace heed
