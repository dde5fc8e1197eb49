"""The report: means over seeds, comparisons with vanilla, and files that hold together."""

import xml.etree.ElementTree as ElementTree

import pytest

from lookahead.report.intervals import wilson
from lookahead.report.pictures import HEIGHT, bar_chart
from lookahead.report.report import opening, print_report, write_report
from lookahead.report.tables import NATS, RATES, summarise, table


def estimate(value, half=0.0):
    return {"value": value, "n": 9, "low": value - half, "high": value + half}


def run(name, safe=50, kl_1=1.0, **fields):
    """A run of results.json; the first `safe` of 100 harmful requests are answered safely."""
    scores = {"rsr": [1] * safe + [0] * (100 - safe), "utility": [1, 0], "test_loss": [2.0] * 3}
    scores |= {"jsr": [], "refused": [], "kl_harmful": [kl_1, kl_1 + 0.1], "kl_task": []}
    harmful = {"tuned_aligned": [estimate(kl_1, 0.1), estimate(0.5)]}
    harmful["aligned_tuned"] = [estimate(2 * kl_1, 0.2), estimate(1.0)]
    kl = {"harmful": harmful, "task": {"tuned_aligned": [], "aligned_tuned": []}}
    numbers = {"rsr": wilson(safe, 100), "jsr": None, "refused": None, "utility": wilson(1, 2)}
    numbers |= {"test_loss": estimate(2.0, 0.5), "test_loss_positions": [], "kl": kl}
    settings = {"name": name, "method": name, "seed": 0, "data": {"left_out": 0}}
    settings |= {"seconds_per_epoch": 2.0, "blank": {"rsr": 0, "jsr": 0}}
    return settings | numbers | {"scores": scores} | fields


SETTINGS = ("data", "seed", "seconds_per_epoch")
ALIGNED = {key: value for key, value in run("aligned", 90, 0.0).items() if key not in SETTINGS}
VANILLA = run("vanilla")
PROMPTS = {"system": "Be brief.", "safety_system": "", "max_new_tokens": 9, "safety_tokens": 7}


def cells(rows, columns):
    """The cells of a table below its head and its rule."""
    lines = table(rows, columns).split("\n")[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_main_table():
    rows = summarise([ALIGNED, VANILLA, run("real", 90, kl_1=0.1), run("virtual", 10)])
    assert "JSR" not in table(rows, RATES) and "KL 1 task" not in table(rows, NATS)
    rates = ["90.0 [83, 94]", "50.0 [40, 60]", "90.0 [83, 94] ▲", "10.0 [6, 17] ▼"]
    assert [line[1] for line in cells(rows, RATES)] == rates
    kl_1 = [line[2] for line in cells(rows, NATS)]
    assert kl_1 == ["0.000 ±0.100", "1.000 ±0.100", "0.100 ±0.100 ▼", "1.000 ±0.100"]


def test_marks_are_of_the_mean_over_seeds_prompt_by_prompt():
    """Both seeds of real are above vanilla on the same prompts, which is what counts."""
    rows = summarise([ALIGNED, VANILLA, run("real", 56), run("real", 58, seed=1)])
    assert cells(rows, {"rsr": "RSR"})[2][1].endswith("▲")
    assert cells(summarise([ALIGNED, VANILLA, run("real", 53)]), RATES)[2][1][-1] == "]"
    rows = summarise([ALIGNED, run("real", 90)])  # without vanilla nothing is compared
    assert cells(rows, RATES)[1][1][-1] == "]"


def test_sentences():
    sdft = run("sdft", 10, blank={"rsr": 3, "jsr": 1})
    text = opening(PROMPTS, summarise([ALIGNED, VANILLA, run("real", 90), sdft]))
    assert "Runs: vanilla 1, real 1, sdft 1. n: RSR 100, utility 2." in text
    assert "'Be brief.'" in text and "sdft: 4 blank completions" in text
    assert "vanilla: " not in text
    kl = {"harmful": {"tuned_aligned": []}, "task": {"tuned_aligned": []}}
    bare = {"test_loss": None, "kl": kl}
    assert opening(PROMPTS, summarise([ALIGNED | bare, VANILLA | bare])).count("| model") == 1


def test_bar_heights_are_the_means(tmp_path):
    bars = {"vanilla": {"1": estimate(4.0, 1), "2": estimate(2.0)}, "<real>": {"1": estimate(1.0)}}
    bar_chart(tmp_path / "kl.svg", {"KL": bars, "again": bars}, 100)
    shapes = list(ElementTree.parse(tmp_path / "kl.svg").iter())
    ends = [float(shape.get("d").split("V")[1]) for shape in shapes if "V" in shape.get("d", "")]
    # A bar and its interval: vanilla, <real>; then vanilla in the second group.
    assert ends == [pytest.approx(-HEIGHT / 5 * end, abs=0.1) for end in (4, 5, 1, 1, 2, 2)] * 2


def test_report_without_some_parts_holds_together(tmp_path, capsys):
    curve = [estimate(1.0, 0.1), estimate(2.0, 0.2)]
    runs = [ALIGNED, VANILLA | {"test_loss_positions": curve}, run("real"), run("real", seed=1)]
    write_report(tmp_path, PROMPTS | {"runs": runs})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    # All lines of a table have as many cells as its head.
    tables = [part.split("\n") for part in text.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 4 and all(set(table[1]) <= set("| -") for table in tables)
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    # Task pairs were not measured.
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"rates", "kl", "test-loss"}
    assert all(f"![{name}]({name}.svg)" in text for name in ("rates", "kl", "test-loss"))
    print_report(tmp_path, PROMPTS | {"runs": runs})
    assert capsys.readouterr().out.split("\n\n")[:2] == text.split("\n\n")[1:3]
