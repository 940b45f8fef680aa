"""BLEU and chrF against sacreBLEU: tokens, counts, scores and signatures, on thousands of hand-made and random segments."""

import json
import os
import pathlib
import random
import subprocess

import pytest
import sacrebleu

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = pathlib.Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "heed_metrics_driver"
TOKENIZERS = ["13a", "zh", "none"]

HAND_MADE = [
    "",
    " ",
    "The cat sat on the mat.",
    "It costs 1,000.5 dollars, or 3.14 or .5 or 5. or 1,a or a,1 or 1.2.3...",
    "\"Quoted\" and 'quoted' and “quoted” and ‘quoted’ — isn't it?",
    "Entities: &quot;a&quot; &amp;amp; &lt;b&gt; &amp;lt; & &apos; &#39;",
    "<skipped>left<skipped> <skip> out-\nand on\nnew lines -\n",
    "state-of-the-art 10-year 2-1 1990-2000 -5 - -- 5-",
    "a/b a\\b a|b {x} [y] (z) ~t `u` @v #w $1 %2 ^3 *4 +5 =6 _7 :8 ;9 <10> ?11 !12",
    "...,,, . , .. ,, .,.,1.,.2,.a.",
    "\tTabs\tand\u00a0no-break\u2003spaces\u3000here \u200b zero \x1cseparators\x1f\x85",
    "我爱你。",
    "车站在哪里？（在那边！）《书》、“引号”：；",
    "他有1,000.5元，ＡＢＣ１２３，ﾊﾝｶｸ，한국어 텍스트, かな カナ。",
    "𠀀𠮷 extension B, 丽 compatibility, 〇々 ⺀⼀ ㄅㄆ ㈠㍿ ☀✂ ︐︰ € ™ → … – •",
    "naïve café ÀÉÎÕÜ İstanbul ΟΔΥΣΣΕΥΣ STRASSE ß ǅ",
    "e\u0301 and é; emoji 😀 👩‍👩‍👧 🇨🇳 👍🏽!",
    "mixed中文and English,混合.的1.5句子-5,5-中",
    "one",
    "two words",
]

ALPHABET = list("abcAB019 ..,,--'\"&;:!?()[]/<>\n\t中文爱你，。！“”…\u3000Ａ１éΣ😀𠀀\u00a0")
ALPHABET += list("\u2000\u2001\u2a6d\u2a6e\u2fa1\u2fa2\u3400\u4db5\u4db6\u9fa5\u9fbc\uff00\ufff0")
ALPHABET += ["&amp;", "&quot;", "&lt;", "<skipped>", "-\n", "1,000.5", " the ", " cat "]


def random_text(rng):
    return "".join(rng.choice(ALPHABET) for _ in range(rng.choice([0, 1, 2, 5, 12, 40])))


def changed(rng, text):
    """A hypothesis that shares n-grams with `text`: characters dropped, doubled or replaced, words moved."""
    words = text.split(" ")
    if rng.random() < 0.3:
        rng.shuffle(words)
    kept = [c for c in " ".join(words) if rng.random() > 0.1]
    return "".join(rng.choice(ALPHABET) if rng.random() < 0.05 else c for c in kept)


def random_segments(seed, count, most_references):
    rng = random.Random(seed)
    segments = []
    for _ in range(count):
        base = rng.choice(HAND_MADE) if rng.random() < 0.5 else random_text(rng)
        references = [changed(rng, base) for _ in range(rng.randint(1, most_references))]
        segments.append({"hyp": changed(rng, base), "refs": references})
    return segments


def run_driver(segments, tokenizer, lowercase):
    arguments = [str(DRIVER), tokenizer] + (["lowercase"] if lowercase else [])
    lines = "".join(json.dumps(segment) + "\n" for segment in segments)
    done = subprocess.run(
        arguments, input=lines, capture_output=True, encoding="utf-8", check=True, timeout=300
    )
    return json.loads(done.stdout)


def check_score(ours, segments, bleu_metric, chrf_metric):
    hypotheses = [segment["hyp"] for segment in segments]
    most = max(len(segment["refs"]) for segment in segments)
    streams = [
        [segment["refs"][i] if i < len(segment["refs"]) else None for segment in segments]
        for i in range(most)
    ]

    bleu = bleu_metric.corpus_score(hypotheses, streams)
    assert ours["bleu"]["matches"] == bleu.counts
    assert ours["bleu"]["totals"] == bleu.totals
    assert (ours["bleu"]["hyp_len"], ours["bleu"]["ref_len"]) == (bleu.sys_len, bleu.ref_len)
    assert abs(ours["bleu"]["score"] - bleu.score) < 1e-9
    assert ours["bleu"]["precisions"] == pytest.approx(bleu.precisions, abs=1e-9)
    assert abs(ours["bleu"]["bp"] - bleu.bp) < 1e-12
    assert abs(ours["bleu"]["ratio"] - bleu.ratio) < 1e-12
    assert ours["bleu"]["signature"] == str(bleu_metric.get_signature())
    assert ours["bleu"]["text"] == str(bleu)

    chrf = chrf_metric.corpus_score(hypotheses, streams)
    assert abs(ours["chrf"]["score"] - chrf.score) < 1e-9
    assert ours["chrf"]["signature"] == str(chrf_metric.get_signature())
    assert ours["chrf"]["text"] == str(chrf)


def check_equal(segments, tokenizer, lowercase):
    """The tokens, the scores of all segments together, and those of each alone."""
    ours = run_driver(segments, tokenizer, lowercase)
    bleu_metric = sacrebleu.BLEU(tokenize=tokenizer, lowercase=lowercase)
    chrf_metric = sacrebleu.CHRF(lowercase=lowercase)
    theirs = [bleu_metric.tokenizer(segment["hyp"].rstrip()).split() for segment in segments]
    assert ours["tokens"] == theirs
    check_score(ours["corpus"], segments, bleu_metric, chrf_metric)
    for score, segment in zip(ours["segments"], segments, strict=True):
        check_score(score, [segment], bleu_metric, chrf_metric)


@pytest.mark.parametrize("lowercase", [False, True], ids=["mixed", "lowercase"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_large_corpus_and_each_of_its_segments_score_the_same(tokenizer, lowercase):
    check_equal(random_segments(seed=1, count=2500, most_references=4), tokenizer, lowercase)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_hand_made_segments_score_the_same_against_each_other(tokenizer):
    segments = [{"hyp": a, "refs": [b]} for a in HAND_MADE for b in HAND_MADE]
    check_equal(segments, tokenizer, lowercase=False)


def test_every_basic_character_is_split_the_same():
    """The tokenizers test character by character: each of the basic plane between two letters and two digits."""
    characters = [chr(c) for c in range(1, 0x10000) if not 0xD800 <= c <= 0xDFFF]
    chunks = [characters[i : i + 64] for i in range(0, len(characters), 64)]
    segments = [
        {"hyp": "".join(f"a{c}b 1{c}2 " for c in chunk), "refs": ["a b"]} for chunk in chunks
    ]
    for tokenizer in TOKENIZERS:
        check_equal(segments, tokenizer, lowercase=False)


def test_equal_texts_score_one_hundred():
    segments = [{"hyp": text, "refs": [text]} for text in HAND_MADE]
    scores = run_driver(segments, "13a", False)
    assert scores["corpus"]["bleu"]["score"] == pytest.approx(100.0)
    assert scores["corpus"]["chrf"]["score"] == pytest.approx(100.0)


def test_input_that_cannot_be_scored_is_one_clear_line():
    for lines, reason in [
        ('{"hyp": "a", "refs": ["a"]}\n{"hyp": "a", "refs": []}\n', "segment 2 has no reference"),
        ("", "nothing to score"),
    ]:
        done = subprocess.run(
            [str(DRIVER)], input=lines, capture_output=True, encoding="utf-8", timeout=60
        )
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
