// chrF2. The figures were computed by sacreBLEU 2.6.0; tests/python/test_metrics.py compares
// thousands more.
#include "heed/train/chrf.h"

#include <gtest/gtest.h>

#include "heed/data/error.h"

namespace heed {
namespace {

using Segments = std::vector<std::string>;

TEST(Chrf, EqualsSacreBleuOnSeveralReferences) {
  const Segments hypotheses = {"the cat sat on a mat .", "我爱你们。"};
  const std::vector<References> references = {
      {"a cat was on the mat .", "the cat sat on the mat ."}, {"我爱你。"}};
  const ChrfScore chrf = corpus_chrf(hypotheses, references);
  EXPECT_NEAR(chrf.score, 64.41845045748057, 1e-9);
  EXPECT_EQ(chrf.signature, "nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0");
  EXPECT_EQ(chrf.to_string(), "chrF2 = 64.42");
}

TEST(Chrf, IgnoresSpacesAlwaysAndCaseWhenAsked) {
  const std::vector<References> references = {{"AB CD"}};
  EXPECT_NEAR(corpus_chrf(Segments{"ABC\u3000D"}, references).score, 100.0, 1e-9);
  EXPECT_EQ(corpus_chrf(Segments{"abcd"}, references).score, 0.0);
  EXPECT_NEAR(corpus_chrf(Segments{"abcd"}, references, /*lowercase=*/true).score, 100.0, 1e-9);
}

TEST(Chrf, OfAnEmptyHypothesisIsZero) {
  EXPECT_EQ(corpus_chrf(Segments{""}, std::vector<References>{{"abc"}}).score, 0.0);
}

TEST(Chrf, OfReferencesWithEqualScoresTheFirstCounts) {
  const Segments hypotheses = {"x", "abc"};
  const std::vector<References> references = {{"a", "bbbbbbbb"}, {"abc"}};
  EXPECT_NEAR(corpus_chrf(hypotheses, references).score, 91.66666666666666, 1e-9);
}

TEST(Chrf, RefusesASegmentWithoutReference) {
  EXPECT_THROW(corpus_chrf(Segments{"a"}, std::vector<References>{{}}), UserError);
}

}  // namespace
}  // namespace heed
