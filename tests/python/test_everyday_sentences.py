"""The shipped English-Chinese model on sentences of every day, against answers fixed beforehand."""

import json
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEED = ROOT / "build" / "bin" / "heed"
MODEL = ROOT / "assets" / "en-zh"

# Chosen, with every answer that a teacher would accept, before the model had been trained.
ACCEPTED = {
    "I love you.": {"我爱你。"},
    "Where is the station?": {
        "车站在哪里？",
        "车站在哪儿？",
        "车站在哪？",
        "火车站在哪里？",
        "火车站在哪儿？",
        "火车站在哪？",
    },
    "I don't know.": {"我不知道。", "不知道。"},
    "How much is this?": {
        "这个多少钱？",
        "这多少钱？",
        "多少钱？",
        "这要多少钱？",
        "这个要多少钱？",
        "这个几块？",
    },
    "He is my friend.": {"他是我的朋友。", "他是我朋友。"},
    "Thank you.": {"谢谢。", "谢谢你。", "谢谢！", "谢谢你！"},
    "Good morning.": {"早上好。", "早安。", "早上好！", "早安！", "早。"},
    "What time is it?": {"几点了？", "现在几点？", "现在几点了？", "几点钟了？", "几点？"},
    "I am a student.": {"我是学生。", "我是个学生。", "我是一个学生。", "我是一名学生。"},
    "She is my sister.": {
        "她是我的妹妹。",
        "她是我妹妹。",
        "她是我的姐姐。",
        "她是我姐姐。",
        "她是我的姐妹。",
    },
    "I'm hungry.": {"我饿了。", "我很饿。", "我好饿。", "我饿。", "我肚子饿了。", "我肚子饿。"},
    "I can't swim.": {"我不会游泳。", "我不能游泳。"},
    "Where do you live?": {
        "你住在哪里？",
        "你住在哪儿？",
        "你住哪里？",
        "你住哪儿？",
        "你住在哪？",
        "你住哪？",
    },
    "I like music.": {"我喜欢音乐。", "我爱音乐。"},
    "It's raining.": {"下雨了。", "在下雨。", "正在下雨。", "天在下雨。", "现在在下雨。"},
    "I have a dog.": {
        "我有一只狗。",
        "我有一条狗。",
        "我有只狗。",
        "我有条狗。",
        "我养了一只狗。",
        "我养了一条狗。",
        "我有一个狗。",
    },
    "See you tomorrow.": {"明天见。", "明天见！"},
    "Do you speak English?": {
        "你会说英语吗？",
        "你说英语吗？",
        "你会讲英语吗？",
        "你讲英语吗？",
        "你会说英文吗？",
        "你说英文吗？",
        "你能说英语吗？",
        "你会不会说英语？",
    },
    "My father is a doctor.": {
        "我父亲是医生。",
        "我爸爸是医生。",
        "我的父亲是医生。",
        "我的爸爸是医生。",
        "我爸爸是个医生。",
        "我父亲是个医生。",
        "我父亲是一名医生。",
        "我爸爸是一名医生。",
        "我的父亲是个医生。",
        "我的父亲是一名医生。",
        "我父亲是一个医生。",
        "我爸是医生。",
        "我父亲是一位医生。",
    },
    "Please open the door.": {
        "请开门。",
        "请打开门。",
        "请把门打开。",
        "请你开门。",
        "请开一下门。",
    },
}


@pytest.fixture(scope="module")
def translations():
    if not HEED.exists():
        pytest.skip("build/bin/heed is not built; run make build")
    done = subprocess.run(
        [HEED, "translate", "--model", MODEL, "--json"],
        input="\n".join(ACCEPTED) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(ACCEPTED, lines, strict=True))


def test_i_love_you(translations):
    assert translations["I love you."]["translation"] == "我爱你。"


def test_at_least_sixteen_of_twenty_are_right(translations):
    wrong = {
        sentence: translations[sentence]["translation"]
        for sentence, accepted in ACCEPTED.items()
        if translations[sentence]["translation"] not in accepted
    }
    assert len(ACCEPTED) == 20
    assert len(wrong) <= 4, wrong


def test_attention_rows_are_distributions(translations):
    for line in translations.values():
        assert len(line["attention"]) == len(line["target_tokens"])
        for row in line["attention"]:
            assert len(row) == len(line["source_tokens"])
            assert abs(sum(row) - 1) < 1e-3
            assert min(row) >= 0
