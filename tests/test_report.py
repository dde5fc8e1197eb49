"""The report: means over seeds, comparisons with vanilla, and files that hold together."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from lookahead.report.intervals import wilson
from lookahead.report.pictures import HEIGHT, bar_chart
from lookahead.report.report import opening, print_report, write_report
from lookahead.report.tables import OTHERS, RATES, summarise, table


def estimate(value, half=0.0):
    return {"value": value, "n": 9, "low": value - half, "high": value + half}


def run(name, safe=50, kl_1=1.0, **fields):
    """A run of results.json; `safe` of 100 harmful requests are answered safely."""
    pairs = {"tuned_aligned": [kl_1, 0.5], "tuned_aligned_half": [0.1, None], "count": [9, 1]}
    pairs |= {"aligned_tuned": [2 * kl_1, 1.0], "aligned_tuned_half": [0.2, None]}
    made = {"name": name, "method": name, "seed": 0, "recipe": {"lr": 1}, "data": {"sha256": "a"}}
    made |= {"rsr": wilson(safe, 100), "jsr": None, "utility": wilson(1, 2), "blank": None}
    made |= {"kl": {"harmful": pairs}, "test_loss": estimate(2.0, 0.5), "test_loss_positions": None}
    made |= {"seconds_per_epoch": 2.0, "examples": 48, "left_out": 0, "blank_rows": 0}
    return made | {"shown_whole": None, "rewritten": None} | fields


TRAINED = ("recipe", "data", "seed", "seconds_per_epoch", "examples", "shown_whole", "rewritten")
ALIGNED = {key: value for key, value in run("aligned", 90, kl={}).items() if key not in TRAINED}
VANILLA = run("vanilla")
PROMPTS = {"system": "Be brief.", "safety_system": "", "max_new_tokens": 9, "safety_tokens": 7}


def cells(rows, columns):
    """The cells of a table below its head and its rule."""
    lines = table(rows, columns).split("\n")[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_seeds_of_one_name_are_one_row():
    _, real = summarise([ALIGNED, run("real", 0, kl_1=1.0), run("real", 100, kl_1=2.0, seed=1)])
    assert len(real["runs"]) == 2 and real["rsr"]["value"] == 0.5 and real["jsr"] is None
    assert (real["rsr"]["low"], real["rsr"]["high"]) == (0, 1)
    first = real["harmful", "tuned_aligned", 1]
    assert first == pytest.approx({"value": 1.5, "n": 9, "low": 0, "high": 1.5 + 12.71 / 2})
    assert real["harmful", "tuned_aligned", 2] == estimate(0.5) | {"n": 1}  # has no interval


def test_main_table():
    slow = run("virtual", 10, seconds_per_epoch=3.0)
    rows = summarise([ALIGNED, VANILLA, run("real", 90, kl_1=0.1), slow])
    assert "JSR" not in table(rows, RATES) and "KL 1 task" not in table(rows, OTHERS)
    rates = ["90.0 [83, 94]", "50.0 [40, 60]", "90.0 [83, 94] ▲", "10.0 [6, 17] ▼"]
    assert [line[1] for line in cells(rows, RATES)] == rates
    kl_1, speed = zip(*(line[2:] for line in cells(rows, OTHERS)))
    assert kl_1 == ("", "1.000 ±0.100", "0.100 ±0.100 ▼", "1.000 ±0.100")
    assert speed == ("", "2.0 1.00×", "2.0 1.00×", "3.0 1.50×")


@pytest.mark.parametrize("other", [{"recipe": {"lr": 2}}, {"data": {"sha256": "b"}}])
def test_unequal_recipe_or_data_are_not_compared(other):
    rows = summarise([ALIGNED, VANILLA, run("real", 90, **other)])
    assert cells(rows, {"rsr": "RSR"})[2] == ["real", "90.0 [83, 94]"]
    assert "equal recipe and data: real." in opening(PROMPTS, rows)
    base = run("other", 95, method="vanilla", **other)
    rows = summarise([ALIGNED, VANILLA, base, run("real", 50, **other)])
    assert cells(rows, {"rsr": "RSR"})[3] == ["real", "50.0 [40, 60] ▼"]


def test_sentences():
    runs = [ALIGNED | {"rsr": wilson(40, 100)}, VANILLA, run("real", 90, shown_whole=7)]
    runs += [run("sdft", 10, blank={"rsr": 3, "jsr": 1}, rewritten=0.5, left_out=2)]
    text = opening(PROMPTS, summarise(runs))
    assert "better than vanilla: real (RSR)." in text and "worse than vanilla: sdft (RSR)." in text
    assert "n: RSR 100, utility 2." in text and "'Be brief.'" in text and "to lose" in text
    assert "real: 7 of 48 answers" in text and "sdft: 4 blank completions" in text
    assert "sdft: 50.0% of" in text and "sdft: 2 training rows" in text
    assert "- vanilla: " not in text


def test_bar_heights_are_the_means(tmp_path):
    bars = {"vanilla": {"1": estimate(4.0, 1), "2": estimate(2.0)}, "<real>": {"1": estimate(1.0)}}
    bar_chart(tmp_path / "kl.svg", {"KL": bars, "again": bars}, 100)
    shapes = list(ElementTree.parse(tmp_path / "kl.svg").iter())
    ends = [float(shape.get("d").split("V")[1]) for shape in shapes if "V" in shape.get("d", "")]
    # A bar and its interval: vanilla, <real>; then vanilla in the second group.
    assert ends == [pytest.approx(-HEIGHT / 5 * end, abs=0.1) for end in (4, 5, 1, 1, 2, 2)] * 2
    texts = [shape.text for shape in shapes]
    assert "■ <real>" in texts and "500" in texts and texts.count("1") == 2


def test_report_without_some_parts_holds_together(tmp_path, capsys):
    positions = {"mean": [1.0, 2.0], "half": [0.1, 0.2], "count": [9, 9]}
    runs = [ALIGNED, VANILLA | {"test_loss_positions": positions}, run("real"), run("real", seed=1)]
    turns = [{"content": "Be good."}, {"content": "Why?"}, {"content": "a\n|<s>"}]
    (tmp_path / "completions").mkdir()
    for name in ("aligned", "vanilla-seed0", "real-seed0", "real-seed1"):
        path = tmp_path / "completions" / f"{name}-safety.json"
        path.write_text(json.dumps({"results": [turns]}))
    write_report(tmp_path, PROMPTS | {"runs": runs})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    # All lines of a table have as many cells as its head.
    tables = [part.split("\n") for part in text.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 5 and all(set(table[1]) <= set("| -") for table in tables)
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
    # Task pairs were not measured; utility was not saved.
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"rates", "kl", "test-loss"}
    assert all(f"![{name}]({name}.svg)" in text for name in ("rates", "kl", "test-loss"))
    assert '"Why?"\n\n- aligned: "a\\n|&lt;s&gt;"\n- vanilla: ' in text
    assert text.count("- real: ") == 1  # of its first seed
    print_report(tmp_path, PROMPTS | {"runs": runs})
    assert capsys.readouterr().out.split("\n\n")[:2] == text.split("\n\n")[1:3]
