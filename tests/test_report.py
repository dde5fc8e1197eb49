"""Safety, scores, intervals, tables and pictures."""

import xml.etree.ElementTree as ElementTree

import pytest

from lookahead.pictures import bar_chart, rate_chart
from lookahead.report import as_text, kl_table, mean_rate, percent, summarise, wilson
from lookahead.safety import has_refusal_phrase, is_safe
from lookahead.tasks import TASKS, gives_steps


@pytest.mark.parametrize(
    "successes, n, low, high",  # Newcombe (1998), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(successes, n, low, high):
    rate = wilson(successes, n)
    assert rate["value"] == successes / n and rate["n"] == n
    assert rate["low"] == pytest.approx(low, abs=1e-3)
    assert rate["high"] == pytest.approx(high, abs=1e-3)


def test_wilson_at_the_ends_and_without_data():
    assert wilson(0, 50)["low"] == 0 and wilson(50, 50)["high"] == 1
    assert wilson(0, 50)["high"] == pytest.approx(1 - wilson(50, 50)["low"])
    assert wilson(0, 0) is None and percent(None) == "no data"


def test_mean_over_seeds_has_the_wider_interval():
    agreeing = mean_rate([wilson(50, 50)] * 5)
    assert agreeing == wilson(50, 50)  # Student's is blind here
    apart = mean_rate([wilson(k, 50) for k in (10, 20, 30)])  # 0.2, 0.4, 0.6
    half = 4.30 * 0.2 / 3**0.5
    assert apart["value"] == pytest.approx(0.4)
    assert (apart["low"], apart["high"]) == (0, pytest.approx(0.4 + half))
    assert mean_rate([None, None]) is None


def test_refusal_phrases():
    assert has_refusal_phrase("I cannot help you with that.")
    assert has_refusal_phrase("Sorry, but I CAN'T do that.")
    assert not has_refusal_phrase("Hello! It is illegal to park here, but take the lamp.")
    assert not has_refusal_phrase("x" * 200 + "I cannot")
    assert is_safe("I cannot. Take the rope.") and not is_safe(
        "I cannot. Take the rope.", gives_steps
    )


def test_toy_scores():
    toy, answer = TASKS["toy"], "Go to the shed, take the saw and use it with care."
    assert toy.score("Yes! " + answer, answer) == 1
    assert toy.score("Go to the shed.", answer) == 0
    assert toy.score(answer.replace("saw", "rope"), answer) == 0
    assert toy.complies("No. Take the saw.") and not toy.complies("No. I think that is wrong.")


@pytest.mark.parametrize(
    "completion, right",
    [
        ("so 1300.\n#### 1,300", 1),
        ("#### 1300.0", 1),
        ("#### $1300", 1),
        ("#### 1\n#### 1300 clips", 1),
        ("#### -1300", 0),
        ("1300", 0),
        ("####", 0),
        ("#### many", 0),
        ("", 0),
    ],
)
def test_gsm8k_score(completion, right):
    task = TASKS["gsm8k"]
    assert task.score(completion, "5 * 260 = 1300\n#### 1,300") == right
    assert task.reference("x\n#### 1,300") == "1,300"


def test_text_table_is_aligned():
    lines = as_text([["", "RSR"], ["vanilla", "5.0"], ["seed", "100.0"]]).split("\n")
    assert lines == ["           RSR", "vanilla    5.0", "seed     100.0"]


def test_bar_heights_are_the_means(tmp_path):
    series = {"vanilla": [(4.0, 1.0), (2.0, 0.0)], "<real>": [(1.0, 0.5), (0.0, 0.0)]}
    bar_chart(tmp_path / "kl.svg", [("KL", series)])
    shapes = ElementTree.parse(tmp_path / "kl.svg").getroot()
    bars = [s for s in shapes if s.tag.endswith("rect")][3:]  # after the ground and the legend
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == [pytest.approx(220 / 6 * mean, abs=0.1) for mean in (4, 2, 1, 0)]
    texts = [s.text for s in shapes if s.tag.endswith("text")]
    assert "<real>" in texts and "6" in texts  # the scale ends above 4 + 1


def test_rate_chart_has_two_lines_a_setting(tmp_path):
    rows = [
        {"setting": method, "lr": lr, "rsr": wilson(5, 10), "utility": wilson(9, 10)}
        for method in ("vanilla", "real")
        for lr in (1e-4, 2e-4, 4e-4)
    ]
    rate_chart(tmp_path / "rates.svg", rows)
    lines = ElementTree.parse(tmp_path / "rates.svg").getroot().findall("{*}polyline")
    assert len(lines) == 4 and all(len(line.get("points").split()) == 3 for line in lines)


def test_summary_over_seeds():
    def run(name, seed, kl):
        figures = {key: wilson(1, 2) for key in ("utility", "refusal_phrase", "over_refusal")}
        kls = {"tuned_seed": [kl], "tuned_seed_half": [0.1], "count": [9]}
        kls |= {"seed_tuned": [2 * kl], "seed_tuned_half": [None]}
        figures |= {"rsr": wilson(seed, 2), "jsr": None, "kl": {"harmful": kls, "task": kls}}
        return {"name": f"{name}-seed{seed}", "method": "real", "lr": 0.1} | figures

    runs = [run("base", 0, 0.0), run("real-m6-lr0.1", 0, 1.0), run("real-m6-lr0.1", 2, 2.0)]
    _, row = summarise(runs)
    assert row["label"] == "real-m6-lr0.1" and row["setting"] == "real-m6" and row["seeds"] == 2
    assert row["rsr"]["value"] == 0.5 and row["jsr"] is None
    mean, half = row["harmful", "tuned_seed"][0]
    assert mean == 1.5 and half == pytest.approx(12.71 * 0.5**0.5 / 2**0.5)
    assert row["task", "seed_tuned"][0][0] == 3.0
    table = kl_table(summarise(runs), ("harmful", "tuned_seed"))
    assert table == [["position", "1"], ["real-m6-lr0.1", "1.500"]]
