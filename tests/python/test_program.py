"""The program `heed` as people use it: subcommands, bad input, training that stops and goes on."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest
import sacrebleu

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEED = pathlib.Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "heed"
MODEL = ROOT / "assets" / "en-zh"

pytestmark = pytest.mark.skipif(
    not HEED.exists(), reason="build/bin/heed is not built; run make build"
)


def heed(*arguments, text=None, cwd=None, **environment):
    return subprocess.run(
        [HEED, *map(str, arguments)],
        input=text,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **environment},
        text=not isinstance(text, bytes),
    )


def refused(done, *hints):
    """One clear line on standard error, exit status 2, nothing else."""
    error = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    assert done.returncode == 2, (done.returncode, error)
    assert len(error.strip().splitlines()) == 1, error
    assert error.startswith("heed: ")
    for hint in hints:
        assert hint in error, error
    return error


def translate(*arguments, text=None):
    return heed("translate", "--model", MODEL, *arguments, text=text)


# --- translate


def test_json_is_one_object_a_line():
    done = translate("--json", text="I love you.\nWhere is the station?\n")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert set(line) >= {
            "source",
            "translation",
            "source_tokens",
            "target_tokens",
            "score",
            "attention",
        }
        assert len(line["attention"]) == len(line["target_tokens"])
        for row in line["attention"]:
            assert abs(sum(row) - 1) < 1e-3


def test_text_on_the_command_line_and_on_standard_input_agree():
    assert translate("Thank you.").stdout == translate(text="Thank you.\n").stdout


def test_many_lines_come_in_their_order():
    sentences = ["Thank you.", "I love you.", "It's raining.", "I like music."] * 30
    together = translate(text="\n".join(sentences)).stdout.splitlines()
    assert len(together) == len(sentences)
    assert together[:4] == translate(text="\n".join(sentences[:4])).stdout.splitlines()
    assert together[:4] * 30 == together


def test_n_best_are_distinct_and_sorted():
    done = translate("--n-best", 4, "--json", "I like music.")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 4
    assert len({line["translation"] for line in lines}) >= 3
    scores = [line["score"] for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_heat_map_and_page(tmp_path):
    done = translate("--attention", "--html", tmp_path / "page.html", "I love you.")
    assert done.stdout.startswith("I love you. -> 我爱你。\n")
    assert "love" in done.stdout
    assert "\x1b" not in done.stdout  # no colours in a pipe
    page = (tmp_path / "page.html").read_text()
    assert "\\u6211" in page  # 我, as the page's JSON writes it
    assert "http://" not in page and "https://" not in page


def test_the_reference_kernels_agree():
    sentence = "Where is the station?"
    rows = [
        json.loads(heed("translate", "--model", MODEL, "--json", sentence, HEED_ISA=isa).stdout)
        for isa in ("ref", "v2")
    ]
    assert rows[0]["translation"] == rows[1]["translation"]
    for a, b in zip(rows[0]["attention"], rows[1]["attention"], strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_ctrl_c_between_lines_keeps_the_page(tmp_path):
    process = subprocess.Popen(
        [HEED, "translate", "--model", MODEL, "--html", tmp_path / "page.html"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("Thank you.\n")
    process.stdin.flush()
    assert process.stdout.readline() == translate("Thank you.").stdout
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert (tmp_path / "page.html").exists()


# --- bad input


def test_no_subcommand():
    refused(heed(), "subcommand")


def test_an_unknown_subcommand_is_answered_with_the_nearest():
    refused(heed("trian"), "'trian'", "did you mean 'train'")
    refused(heed("frobnicate"), "heed --help")


def test_an_unknown_option():
    refused(translate("--beem", 3, "Hi."), "--beem")


def test_a_missing_model():
    refused(heed("translate", "--model", "no/such/model", "Hi."), "no/such/model")


def broken_model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "source.spm", "target.spm"):
        (folder / name).write_bytes((MODEL / name).read_bytes())
    return folder


def test_a_truncated_model(tmp_path):
    folder = broken_model(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    done = heed("translate", "--model", folder, "Hi.")
    refused(done, "model.safetensors")
    assert done.stdout == ""


def test_a_model_without_its_weights(tmp_path):
    folder = broken_model(tmp_path)
    (folder / "model.safetensors").unlink()
    refused(heed("translate", "--model", folder, "Hi."), "model.safetensors")


def test_invalid_utf8():
    done = heed("translate", "--model", MODEL, text=b"Thank you.\nab\xffc\n")
    refused(done, "line 2", "UTF-8", "byte 3")
    assert done.stdout.decode().count("\n") == 1  # the good line before it is whole


def test_an_empty_line():
    refused(translate(text="Thank you.\n\nHi.\n"), "line 2", "empty")
    refused(translate(""), "empty")


def test_a_ten_thousand_word_line():
    refused(translate(text="bird " * 10000 + "\n"), "line 1", "at most")


def test_empty_input_is_no_work():
    done = translate(text="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_page_that_cannot_be_written():
    refused(translate("--html", "/no/such/folder/page.html", "Hi."), "/no/such/folder")


def test_a_page_that_cannot_be_written_is_refused_before_the_work():
    assert translate("--html", "/no/such/folder/page.html", "Hi.").stdout == ""


def test_input_that_cannot_be_read(tmp_path):
    with open("/proc/self/mem", "rb") as unreadable:
        done = subprocess.run(
            [HEED, "translate", "--model", MODEL], stdin=unreadable, capture_output=True, text=True
        )
    refused(done, "standard input")


def test_a_configuration_that_says_nothing_is_no_model(tmp_path):
    folder = broken_model(tmp_path)
    (folder / "config.json").write_text("")
    refused(heed("translate", "--model", folder, "Hi."), "model_type")


def test_no_space_left(tmp_path):
    """A full disk, played by a limit on file sizes: the page is refused and nothing is half-written."""
    done = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 1; exec "$@"',
            "bash",
            HEED,
            "translate",
            "--model",
            MODEL,
            "--html",
            tmp_path / "page.html",
            "Hi.",
        ],
        capture_output=True,
        text=True,
    )
    refused(done, "page.html")
    assert list(tmp_path.iterdir()) == []


def test_wrong_environment():
    refused(heed("doctor", HEED_THREADS="many"), "HEED_THREADS")
    refused(heed("doctor", HEED_ISA="v9"), "HEED_ISA", "unknown level")


def test_evaluate_equals_sacrebleu_on_what_translate_prints(tmp_path):
    sources = ["I love you.", "It's raining.", "Where do you live?", "My father is a doctor."] * 3
    references = ["我爱你。", "下雨了。", "你住在哪里?", "我爸爸是医生。"] * 3
    (tmp_path / "source").write_text("\n".join(sources) + "\n")
    (tmp_path / "reference").write_text("\n".join(references) + "\n")
    files = ("--source", tmp_path / "source", "--reference", tmp_path / "reference")
    scores = json.loads(heed("evaluate", "--model", MODEL, *files, "--json").stdout)
    hypotheses = translate(text="\n".join(sources) + "\n").stdout.splitlines()
    bleu = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="zh")
    chrf = sacrebleu.corpus_chrf(hypotheses, [references])
    assert scores["bleu_published_references"] == pytest.approx(bleu.score, abs=0.01)
    assert scores["chrf_published_references"] == pytest.approx(chrf.score, abs=0.01)
    assert scores["bleu"] > bleu.score  # the model's rules make the reference's ? full width


def test_evaluate_names_the_line_that_is_empty(tmp_path):
    (tmp_path / "source").write_text("Hi.\n\n")
    (tmp_path / "reference").write_text("你好。\n你好。\n")
    files = ("--source", tmp_path / "source", "--reference", tmp_path / "reference")
    refused(heed("evaluate", "--model", MODEL, *files), "source:2", "empty")


def test_a_full_standard_output_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([HEED, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True)
    refused(done, "standard output")


def test_evaluate_without_data_says_where_it_is_published():
    refused(heed("evaluate", "--model", MODEL, HEED_DATA=""), "manythings.org", "sha256")
    refused(heed("evaluate", "--model", MODEL, "--data", "/no/folder"), "/no/folder", "sha256")


def test_doctor_lists_what_is_missing(tmp_path):
    done = heed("doctor", "--data", tmp_path)
    assert done.returncode == 0
    assert "missing" in done.stdout and "sha256" in done.stdout and "home" in done.stdout


def test_doctor_finds_altered_data(tmp_path):
    (tmp_path / "tatoeba_cmn_eng").mkdir()
    (tmp_path / "tatoeba_cmn_eng" / "cmn.txt.gz").write_bytes(b"other")
    done = heed("doctor", "--data", tmp_path)
    assert done.returncode == 1
    assert "differs" in done.stdout


# --- train

CONFIG = """
task: translation
output: OUTPUT
data: {file: pairs.tsv, dev_percent: 10, test_percent: 5}
source_subwords: {vocabulary: 40}
target_subwords: {vocabulary: 60, type: char}
model: {embedding_size: 16, encoder_size: 16, decoder_size: 24, attention_size: 16, dropout: 0.2}
batch_tokens: 120
subword_sampling: SAMPLING
training:
  epochs: 3
  checkpoint_every: 7
  average: 0.95
  schedule: {name: plateau, warmup_steps: 10}
"""


@pytest.fixture
def corpus(tmp_path):
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    generator = random.Random(1)
    rows = []
    for _ in range(300):
        chosen = [generator.choice(words) for _ in range(generator.randint(1, 5))]
        rows.append(" ".join(chosen) + "\t" + " ".join(reversed(chosen)))
    (tmp_path / "pairs.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def config(folder, output, sampling=0, extra=""):
    path = folder / f"{output}.yaml"
    text = CONFIG.replace("OUTPUT", str(folder / output)).replace("SAMPLING", str(sampling))
    path.write_text(text + extra)
    return path


def final_bytes(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_killed_training_resumes_to_the_same_bits(corpus):
    whole = heed("train", config(corpus, "whole", 0.3), "--data", corpus)
    assert whole.returncode == 0, whole.stderr
    generator = random.Random()
    for attempt in range(3):
        path = config(corpus, f"stopped{attempt}", 0.3)
        output = corpus / f"stopped{attempt}"
        process = subprocess.Popen(
            [HEED, "train", path, "--data", corpus, "--set", "training.log_every=1"],
            stderr=subprocess.PIPE,
            text=True,
        )
        stop_at = generator.randint(1, 60)
        for line in process.stderr:
            if line.startswith(f"step {stop_at}/"):
                process.send_signal(signal.SIGTERM)
                break
        process.stderr.read()
        assert process.wait() == 130
        resumed = heed("train", path, "--data", corpus, "--set", "training.log_every=1", "--resume")
        assert resumed.returncode == 0, resumed.stderr
        assert final_bytes(output) == final_bytes(corpus / "whole"), f"stopped at step {stop_at}"


def test_ctrl_c_saves_and_says_how_to_go_on(corpus):
    path = config(corpus, "interrupted", extra="")
    process = subprocess.Popen(
        [HEED, "train", path, "--data", corpus, "--set", "training.epochs=100000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (corpus / "interrupted" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.stderr.read()
    assert process.wait() == 130
    assert "--resume" in error


def test_training_twice_needs_a_word(corpus):
    path = config(corpus, "twice")
    one_epoch = ("--data", corpus, "--set", "training.epochs=1")
    assert heed("train", path, *one_epoch).returncode == 0
    done = heed("train", path, *one_epoch)
    assert done.returncode == 2 and "--resume" in done.stderr and "--restart" in done.stderr
    assert heed("train", path, *one_epoch, "--restart").returncode == 0


def test_a_refused_training_leaves_the_model_as_it_was(corpus):
    path = config(corpus, "kept")
    one_epoch = ("--data", corpus, "--set", "training.epochs=1")
    assert heed("train", path, *one_epoch).returncode == 0
    before = {file.name: file.read_bytes() for file in (corpus / "kept").iterdir()}
    for word in ([], ["--resume"]):
        done = heed("train", path, *one_epoch, "--set", "source_subwords.vocabulary=30", *word)
        assert done.returncode == 2, done.stderr
        assert {file.name: file.read_bytes() for file in (corpus / "kept").iterdir()} == before


def test_a_resumed_training_needs_the_same_sentences(corpus):
    path = config(corpus, "moved")
    assert heed("train", path, "--data", corpus, "--set", "training.epochs=1").returncode == 0
    lines = (corpus / "pairs.tsv").read_text().splitlines()
    (corpus / "pairs.tsv").write_text("\n".join(reversed(lines)) + "\n")
    done = heed("train", path, "--data", corpus, "--set", "training.epochs=1", "--resume")
    assert done.returncode == 2
    assert "data.digest" in done.stderr


def test_only_unigram_subwords_are_sampled(corpus):
    path = config(corpus, "char", 0.1)
    done = heed("train", path, "--data", corpus, "--set", "source_subwords.type=char")
    refused(done, "subword_sampling", "unigram")


def test_a_trained_model_translates_and_is_judged(corpus):
    assert heed("train", config(corpus, "used"), "--data", corpus).returncode == 0
    model = corpus / "used"
    done = heed("translate", "--model", model, "--json", "one two")
    assert done.returncode == 0, done.stderr
    scores = heed("evaluate", "--model", model, "--data", corpus, "--json")
    assert 0 <= json.loads(scores.stdout)["bleu"] <= 100


def test_a_mistyped_key_is_answered_with_the_nearest(corpus):
    path = config(corpus, "typo", extra="bacth_tokens: 5\n")
    refused(heed("train", path, "--data", corpus), "bacth_tokens", "did you mean 'batch_tokens'")
    path = config(corpus, "typo2")
    refused(
        heed("train", path, "--set", "training.epoch=3", "--data", corpus), "did you mean 'epochs'"
    )
    refused(heed("train", path, "--set", "training.epochs", "--data", corpus), "key=value")
    assert not (corpus / "typo").exists()


def test_a_missing_configuration_or_data_folder(corpus):
    refused(heed("train", "no.yaml"), "no.yaml")
    refused(heed("train", config(corpus, "nodata"), "--data", corpus / "none"), "none")
    assert not (corpus / "nodata").exists()


def test_the_examples_are_read(tmp_path):
    for example in sorted((ROOT / "examples").glob("*.yaml")):
        done = heed("train", example, "--data", tmp_path, "--set", f"output={tmp_path}/out")
        refused(done, "sha256")  # everything in it is known; only the data is not there
