"""Tables and pictures."""

import xml.etree.ElementTree as ElementTree

import pytest

from lookahead.intervals import wilson
from lookahead.report import as_text, bar_chart
from lookahead.tables import (
    ablations,
    beside_paper,
    curve_table,
    curves,
    rate_table,
    summarise,
    verdicts,
)


def test_no_data():
    assert rate_table(summarise([SEED]), ["jsr"])[1] == ["base", "no data", ""]


def test_text_table_is_aligned():
    lines = as_text([["", "RSR"], ["vanilla", "5.0"], ["seed", "100.0"]]).split("\n")
    assert lines == ["           RSR", "vanilla    5.0", "seed     100.0"]


def figure(value, low=None, high=None):
    low, high = (value if end is None else end for end in (low, high))
    return {"value": value, "n": 9, "low": low, "high": high}


def test_bar_heights_are_the_means(tmp_path):
    series = {"vanilla": {"first": figure(4.0, 3, 5), "second": figure(2.0)}}
    series["<real>"] = {"first": figure(1.0, 0.5, 1.5), "third": figure(0.0)}
    bar_chart(tmp_path / "kl.svg", {"KL": series, "again": series})
    shapes = ElementTree.parse(tmp_path / "kl.svg").getroot()
    bars = [s for s in shapes if s.tag.endswith("rect")][3:]  # after the ground and the legend
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == [pytest.approx(220 / 5 * mean, abs=0.1) for mean in (4, 1, 2, 0)] * 2
    texts = [s.text for s in shapes if s.tag.endswith("text")]
    assert "<real>" in texts and "5" in texts  # the scale holds the interval
    assert texts.count("first") == texts.count("third") == 2


def run(name, seed=0, method="real", rsr=1, kl=1.0, **fields):
    """A run of results.json, its rates of 100 prompts."""
    kls = {"tuned_seed": [kl], "tuned_seed_half": [0.1], "count": [9]}
    kls |= {"seed_tuned": [2 * kl], "seed_tuned_half": [None]}
    figures = {key: wilson(1, 2) for key in ("utility", "refusal_phrase", "over_refusal")}
    figures |= {"rsr": wilson(rsr, 100), "jsr": None, "kl": {"harmful": kls, "task": kls}}
    figures |= {"name": f"{name}-seed{seed}", "method": method, "seed": seed, "lr": 0.1}
    return (
        figures
        | {"seconds_per_epoch": 2.0, "m": None, "loss_before": [1.0, 2.0]}
        | fields
        | {"loss_after": [0.5, 0.25]}
    )


SEED = run("base", method="seed", kl=0.0, lr=None, seconds_per_epoch=None, loss_before=None)


def test_summary_over_seeds():
    runs = [SEED, run("real-m6-lr0.1", 0, rsr=0, kl=1.0), run("real-m6-lr0.1", 2, rsr=100, kl=2.0)]
    _, row = summarise(runs)
    assert row["label"] == "real-m6-lr0.1" and len(row["runs"]) == 2 and row["seconds"] == 2.0
    assert row["rsr"]["value"] == 0.5 and row["jsr"] is None
    pictures = curves([row])
    assert list(pictures) == ["kl", "kl-task", "loss"]
    (before, after), (forth, _), (_, back) = (pictures[k] for k in ("loss", "kl", "kl-task"))
    assert "before" in before and "after" in after
    label = "real-m6-lr0.1"
    assert pictures["loss"][before][label] == {
        1: figure(1) | {"n": None},
        2: figure(2) | {"n": None},
    }
    forth_1 = pictures["kl"][forth][label][1]
    assert "KL(tuned || seed)" in forth and "KL(seed || tuned)" in back
    assert forth_1 == pytest.approx(figure(1.5, 0, 1.5 + 12.71 / 2))
    assert pictures["kl-task"][back][label][1]["value"] == 3.0
    assert curve_table(pictures["loss"][after])[1][2:] == ["0.500", "0.250"]


def test_bars_show_position_1():
    series = {"a": {1: figure(2.0)}, "b": {1: figure(0.5), 2: figure(1.0)}, "c": {1: figure(0.0)}}
    assert curve_table(series) == [
        ["position", "1 as a bar", "1", "2"],
        ["a", "█" * 10, "2.000"],
        ["b", "██        ", "0.500", "1.000"],
        ["c", "▏         ", "0.000"],
    ]


def test_better_and_worse_than_vanilla_are_marked_alike():
    runs = [SEED, run("vanilla", method="vanilla", rsr=50), run("real-m6", m=6, rsr=90)]
    runs += [run("virtual", method="virtual", rsr=10, seconds_per_epoch=3.0)]
    runs += [run("real-m6-lr0.2", m=6, rsr=0, lr=0.2)]  # has no vanilla beside it
    rows = summarise(runs)
    table = rate_table(rows, ["rsr"])
    assert [line[1][-1] for line in table[1:]] == ["]", "]", "▲", "▼", "]"]
    assert [line[-1] for line in table[1:]] == ["", "2 1.00×", "2 1.00×", "3 1.50×", "2"]
    assert verdicts(rows) == [
        "Significantly better than vanilla: real-m6 (RSR).",
        "Significantly worse than vanilla: virtual (RSR).",
        "Not compared, for want of a vanilla run like them: real-m6-lr0.2.",
    ]


def test_the_papers_figures_stand_beside():
    runs = [SEED | {"name": "seed"}, run("vanilla", method="vanilla"), run("real-m6", m=6)]
    runs += [run("real-m4", m=4), run("virtual-prefixWell", method="virtual")]
    rows = summarise(runs)
    table = [beside_paper(line, "gsm8k") for line in rate_table(rows, ["rsr"])]
    assert table[0][-4:] == ["paper: RSR", "paper: JSR", "paper: utility", "paper: s/epoch"]
    assert table[1][-4:] == ["99.39", "90.30", "26.69", ""]
    assert table[3][-4:] == ["98.48", "60.61", "38.21", "286"]
    assert table[4][-4:] == table[5][-4:] == [""] * 4
    rows = summarise([SEED, run("vanilla-lora16", method="vanilla"), run("virtual-dtypebfloat16")])
    table = [beside_paper(line, "gsm8k") for line in rate_table(rows, ["rsr"])]
    assert table[2][-4:] == [""] * 4 and table[3][-4] == "99.39"


def test_a_judges_column_is_there_when_any_run_has_scores():
    runs = [SEED, run("vanilla", method="vanilla"), run("vanilla", seed=1, method="vanilla")]
    runs[1]["rsr_judged"] = wilson(3, 4)
    assert summarise(runs)[1]["rsr_judged"]["value"] == 0.75


def test_ablations():
    runs = [SEED, run("vanilla", method="vanilla"), run("vanilla-lr0.2", method="vanilla", lr=0.2)]
    runs += [run(f"real-m{m}", m=m, rsr=10 * m) for m in (1, 2, 4)]
    runs += [run("real-m4-lr0.2", m=4, lr=0.2)]
    runs += [run(p, method="virtual", prefix=p) for p in "ab"]
    rows = summarise(runs)[1:]
    ((title, bars),) = ablations(rows, "m").items()
    assert title == "real, percent by m" and list(bars) == ["RSR", "utility"]  # JSR has no data
    assert list(bars["RSR"]) == ["vanilla", "1", "2", "4"]
    assert [bar["value"] for bar in bars["RSR"].values()] == [0.01, 0.1, 0.2, 0.4]
    assert bars["RSR"]["4"] == rows[4]["rsr"]
    (_, bars), (title, _) = ablations(rows, "lr").items()
    assert title == "real-m4, percent by lr" and list(bars["RSR"]) == ["0.1", "0.2"]
    (bars,) = ablations(rows, "prefix").values()
    assert list(bars["RSR"]) == ["vanilla", "'a'", "'b'"]
    assert ablations(rows, "connector") == {}


def test_pictures_of_uneven_rows(tmp_path):
    """A judge may have scored some rows only, and a connector may be blank."""
    runs = [SEED]
    for method in ("vanilla", "virtual"):
        for lr in (0.1, 0.2):
            runs.append(run(f"{method}-lr{lr}", method=method, lr=lr))
            runs[-1]["rsr_judged"] = wilson(1, 4) if method == "virtual" else None
    runs += [run(f"real-{c}", connector=c, rsr=40) for c in (" So: ", "")]
    rows = summarise(runs)[1:]
    panels = ablations(rows, "lr")
    assert [list(bars) for bars in panels.values()] == [
        ["RSR", "utility"],
        ["RSR", "utility", "RSR, judge"],
    ]
    bar_chart(tmp_path / "lr.svg", panels, 100)
    shapes = ElementTree.parse(tmp_path / "lr.svg").getroot()
    assert len([s for s in shapes if s.tag.endswith("rect")]) == 1 + 3 + 2 * 2 + 2 * 3
    (bars,) = ablations(rows, "connector").values()
    assert list(bars["RSR"]) == ["vanilla", "' So: '", "''"]
