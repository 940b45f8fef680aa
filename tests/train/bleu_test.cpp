// BLEU: tokens, counts and scores. The figures were computed by sacreBLEU 2.6.0;
// tests/python/test_metrics.py compares thousands more.
#include "heed/train/bleu.h"

#include <gtest/gtest.h>

#include "heed/data/error.h"

namespace heed {
namespace {

using Tokens = std::vector<std::string>;
using Segments = std::vector<std::string>;

Tokens tokens_13a(std::string_view text) { return tokenize(text, BleuTokenizer::k13a); }

TEST(Tokenize13a, SeparatesMarksButNotNumbers) {
  EXPECT_EQ(tokens_13a("It costs 1,000.50 dollars, he said."),
            (Tokens{"It", "costs", "1,000.50", "dollars", ",", "he", "said", "."}));
  EXPECT_EQ(tokens_13a("a.b 1.b a.1 .5 5."),
            (Tokens{"a", ".", "b", "1", ".", "b", "a", ".", "1", ".", "5", "5", "."}));
  EXPECT_EQ(tokens_13a("\"(x/y)\" 100% don't"),
            (Tokens{"\"", "(", "x", "/", "y", ")", "\"", "100", "%", "don't"}));
}

TEST(Tokenize13a, SeparatesADashOnlyBehindADigit) {
  EXPECT_EQ(tokens_13a("well-known 10-year"), (Tokens{"well-known", "10", "-", "year"}));
}

TEST(Tokenize13a, ReadsEntitiesAndJoinsBrokenLines) {
  EXPECT_EQ(tokens_13a("&quot;a&quot; &lt;b&gt; &amp;"),
            (Tokens{"\"", "a", "\"", "<", "b", ">", "&"}));
  EXPECT_EQ(tokens_13a("hy-\nphen line\nend<skipped>"), (Tokens{"hyphen", "line", "end"}));
}

TEST(TokenizeZh, MakesEachChineseCharacterAToken) {
  EXPECT_EQ(tokenize("我有1,000.5元，OK？", BleuTokenizer::kZh),
            (Tokens{"我", "有", "1,000.5", "元", "，", "OK", "？"}));
}

TEST(TokenizeNone, SplitsAtSpacesOnly) {
  EXPECT_EQ(tokenize(" one, two\u3000three ", BleuTokenizer::kNone),
            (Tokens{"one,", "two", "three"}));
}

TEST(BleuTokenizerNames, AreReadAndUnknownOnesRefused) {
  for (const char* name : {"13a", "zh", "none"}) {
    EXPECT_EQ(name_of(bleu_tokenizer_named(name)), name);
  }
  EXPECT_THROW(bleu_tokenizer_named("intl"), UserError);
}

const Segments kHypotheses = {"the cat sat on a mat .", "it is raining again today"};
const std::vector<References> kReferences = {{"the cat sat on the mat .", "a cat was on the mat ."},
                                             {"it is raining again now in the town"}};

TEST(Bleu, EqualsSacreBleuOnSeveralReferences) {
  const BleuScore bleu = corpus_bleu(kHypotheses, kReferences);
  EXPECT_NEAR(bleu.score, 44.536484891358306, 1e-9);
  EXPECT_EQ(bleu.matches, (std::array<int64_t, 4>{11, 7, 4, 2}));
  EXPECT_EQ(bleu.totals, (std::array<int64_t, 4>{12, 10, 8, 6}));
  EXPECT_NEAR(bleu.brevity_penalty, 0.7788007830714049, 1e-12);
  EXPECT_EQ(bleu.hypothesis_length, 12);
  EXPECT_EQ(bleu.reference_length, 15);
  EXPECT_EQ(bleu.signature, "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0");
  EXPECT_EQ(
      bleu.to_string(),
      "BLEU = 44.54 91.7/70.0/50.0/33.3 (BP = 0.779 ratio = 0.800 hyp_len = 12 ref_len = 15)");
}

TEST(Bleu, OfTwoEquallyCloseReferencesTheShorterCounts) {
  const Segments hypotheses = {"a b c"};
  EXPECT_EQ(corpus_bleu(hypotheses, std::vector<References>{{"a b c d", "a b"}}).reference_length,
            2);
  EXPECT_EQ(corpus_bleu(hypotheses, std::vector<References>{{"a b", "a b c d"}}).reference_length,
            2);
}

TEST(Bleu, SmoothsOrdersWithoutAMatch) {
  const BleuScore bleu = corpus_bleu(Segments{"a b c d e"}, std::vector<References>{{"a x b y c"}});
  EXPECT_NEAR(bleu.score, 14.058533129758727, 1e-9);
}

TEST(Bleu, IgnoresCaseOnlyWhenAsked) {
  const std::vector<References> references = {{"THE CAT SAT ON THE MAT"}};
  const Segments hypotheses = {"the cat sat on the mat"};
  EXPECT_EQ(corpus_bleu(hypotheses, references).score, 0.0);
  const BleuScore bleu = corpus_bleu(hypotheses, references, {.lowercase = true});
  EXPECT_NEAR(bleu.score, 100.0, 1e-9);
  EXPECT_EQ(bleu.signature, "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:2.6.0");
}

TEST(Bleu, OfEmptyHypothesesIsZero) {
  const BleuScore bleu = corpus_bleu(Segments{"", ""}, std::vector<References>{{"a b"}, {"c"}});
  EXPECT_EQ(bleu.score, 0.0);
  EXPECT_EQ(bleu.brevity_penalty, 0.0);
  EXPECT_EQ(bleu.reference_length, 3);
}

TEST(Bleu, RefusesWhatCannotBeScored) {
  EXPECT_THROW(corpus_bleu(Segments{}, std::vector<References>{}), UserError);
  EXPECT_THROW(corpus_bleu(Segments{"a"}, std::vector<References>{}), UserError);
  EXPECT_THROW(corpus_bleu(Segments{"a"}, std::vector<References>{{}}), UserError);
}

}  // namespace
}  // namespace heed
