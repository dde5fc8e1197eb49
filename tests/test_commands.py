"""Both scripts and the talk from end to end on tiny models, and what a mistake gets."""

import argparse
import io
import pathlib
import subprocess
import sys

import pytest
import torch
from conftest import tiny

import evaluate
import train
from lookahead import __main__ as previews
from lookahead import chat, losses, preview, talk
from lookahead.files.rows import Pair, read_json
from lookahead.files.writing import write_json, write_rows
from lookahead.methods import METHODS, Method
from lookahead.report import score
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES

ROOT = pathlib.Path(__file__).parents[1]
NUMBER = {"value", "n", "low", "high"}


@pytest.fixture
def options(chat_model, tmp_path):
    return [*chat_model, "--system", "", "--out", tmp_path]


@pytest.fixture
def make(options, script):
    """Train on eight rows; return the folder of the runs."""

    def run(*more):
        script(train.main, *options, *more)
        return options[-1] / "chat"

    return run


def measure(script, folder, *more):
    """Evaluate the runs of a folder on the same rows; return what results.json holds."""
    script(evaluate.main, folder, "--data", folder.parent / "rows.jsonl", *more)
    return read_json(folder / "results.json")


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_toy_world(tiny_world, tmp_path, script, capsys):
    script(train.main, "--method", *METHODS, "--out", tmp_path)
    folder = tmp_path / "toy"
    script(evaluate.main, folder, "--limit", 20)
    results = read_json(folder / "results.json")

    # The contract of results.json, whatever methods there are.
    aligned, *tuned = results["runs"]
    assert results["task"] == "toy" and aligned["method"] == "aligned"
    assert [run["method"] for run in tuned] == list(METHODS) == [run["name"] for run in tuned]
    for run in results["runs"]:
        for name in ("rsr", "jsr", "refused", "utility", "test_loss"):
            assert set(run[name]) == NUMBER and run[name]["n"] == len(run["scores"][name]) == 20
            assert run[name]["value"] == pytest.approx(sum(run["scores"][name]) / 20)
        points = sum((list(kl.values()) for kl in run["kl"].values()), [run["test_loss_positions"]])
        assert len(points) == 5 and all(len(curve) == 8 for curve in points)
        assert all(set(point) == NUMBER for curve in points for point in curve)
    assert {point["value"] for point in aligned["kl"]["task"]["tuned_aligned"]} == {0.0}
    assert all(run["kl"]["task"]["tuned_aligned"][0]["value"] > 0 for run in tuned)

    # What stands beside it.
    texts = capsys.readouterr().out, (folder / "report.md").read_text()
    assert all(f"| {method} " in text for method in METHODS for text in texts)
    assert len(list(folder.glob("completions/*"))) == 3 * (1 + len(METHODS))


def test_runs_keep_the_aligned_model_that_they_start_from(
    tiny_world, tmp_path, script, complaint, monkeypatch
):
    script(train.main, "--method", "vanilla", "--out", tmp_path)
    before = weights(tmp_path / "toy" / "aligned")
    words = complaint(train.main, "--show", 1, "--out", tmp_path, "--world", 1)
    assert "runs start from an aligned model with another world; give another --out" in words
    monkeypatch.setattr(torch, "__version__", "3.0")
    assert "with another torch" in complaint(train.main, "--show", 1, "--out", tmp_path)
    assert weights(tmp_path / "toy" / "aligned") == before


def test_which_requests_serve_which_number(tmp_path):
    a, b, c = {"goal": "a"}, {"goal": "b", "target": "B"}, {"goal": "c", "target": "C"}
    write_rows(tmp_path / "data" / "harmful.jsonl", [a, b, c])
    write_rows(tmp_path / "other.jsonl", [c])

    def prompts(harmful=None, answers=None):
        args = argparse.Namespace(data=None, harmful=harmful, harmful_answers=answers, limit=2)
        data = evaluate.read_data(tmp_path, TASKS["chat"], args)
        return "".join(pair.prompt for pair in data["safety"] + [Pair("|")] + data["jailbreak"])

    other = tmp_path / "other.jsonl"
    assert [prompts(), prompts(other), prompts(None, other)] == ["ab|b", "c|c", "ab|c"]


def test_the_same_request_to_every_model(
    tiny_world, tmp_path, script, complaint, capsys, monkeypatch
):
    script(train.main, "--method", "vanilla", "real", "--out", tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi.\nHow do I steal the lamp?\n"))
    script(talk.main, tmp_path / "toy", "--max-new-tokens", 5)
    script(talk.main, tmp_path / "toy" / "aligned", "--template", "llama-2")  # nothing is asked
    lines = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("sys.stdin", io.StringIO("Caf\udce9?"))
    assert "standard input is not UTF-8" in complaint(talk.main, tmp_path / "toy")
    answers = [line.split() for line in lines if line.rstrip().endswith("%")]
    assert [words[0] for words in answers] == ["aligned", "vanilla-seed0", "real-seed0"] * 2
    for words in answers:
        shares = [int(word[:-1]) for word in words if word.endswith("%")]
        assert len(shares) == 3 and shares == sorted(shares, reverse=True)


def test_runs_of_separate_commands_are_compared(make, script, capsys):
    make("--method", "vanilla", "--seeds", 2)
    make("--method", "virtual")
    folder = make("--method", "real", "--m", 1, "--name", "real-m1")
    _, *runs = measure(script, folder)["runs"]
    assert [(run["name"], run["m"]) for run in runs] == [
        ("vanilla", None), ("vanilla", None), ("real-m1", 1), ("virtual", None)]  # fmt: skip
    assert "Runs: vanilla 2, real-m1 1, virtual 1." in capsys.readouterr().out
    assert weights(folder / "vanilla-seed0") != weights(folder / "vanilla-seed1")


def test_bfloat16_lora_and_recompute(make, script, tmp_path):
    trained = {}
    for kind in ("", "--recompute", "--lora 4", "--dtype bfloat16", "--lora 4 --dtype bfloat16"):
        out = tmp_path / kind.replace(" ", "")
        make("--method", "real", "--lr", 1e-2, "--out", out, *kind.split())
        folder = out / "chat"
        trained[kind] = weights(folder / "real-seed0")
    assert trained[""] == trained["--recompute"] and len(set(trained.values())) == 4
    write_rows(out / "rows.jsonl", [{"prompt": "Hi.", "answer": "It is."}] * 8)
    write_rows(out / "harmful.jsonl", [{"goal": "Hi."}] * 6 + [{"goal": "Hi.", "target": "Sure."}])
    run = measure(script, folder, "--dtype=bfloat16", f"--harmful={out}/harmful.jsonl")["runs"][1]
    assert run["rsr"]["n"] == 7 and run["jsr"]["n"] == 1  # those with an answer
    assert run["kl"]["task"]["tuned_aligned"][0]["value"] > 1e-3


def test_each_method_trains_on_its_own_rows(make, monkeypatch, tokenizer, tmp_path):
    seen = {}

    def record(model, optimizer, examples, loop, *_, **__):
        log_probs, _ = losses.answer_log_probs(model, examples, loop.token_budget)
        seen[loop.name.removesuffix("-seed0")] = zip(examples, log_probs)
        return [{"loss": 1.0, "seconds": 1.0}]

    # A row in chat messages has a system message of its own.
    monkeypatch.setattr(train, "train", record)
    turns = {"system": "Be brief.", "user": "Hi.", "assistant": "It is 42, not the door."}
    chat_row = [{"role": role, "content": content} for role, content in turns.items()]
    row = {"prompt": "Hi.", "answer": "It is 42, not the door."}
    write_rows(tmp_path / "rows.jsonl", [row, chat_row])
    make("--method", "vanilla", "constrained", "real", "virtual")
    pairs = dict.fromkeys(("vanilla", "constrained"), tuple(row.values()))
    pairs["real"] = preview.real_preview(*row.values(), 6, tokenizer)
    pairs["virtual"] = preview.virtual_preview(*row.values())
    for method, examples in seen.items():
        for system, (example, of_aligned) in zip(["", "Be brief."], examples, strict=True):
            form = chat.Chat(tokenizer, TEMPLATES["llama-2"], system)
            assert example[:2] == form.encode(*pairs[method])
            assert method != "constrained" or example.aligned_log_probs.equal(of_aligned)


def test_what_is_trained_on_is_shown_and_nothing_is_trained(make, capsys, tmp_path):
    make("--method", "vanilla", "sdft", "real", "--show", 2)
    text = capsys.readouterr().out
    assert text.count("in the loss") == 6 and text.count("▁answer|▁b") == 2
    assert not (tmp_path / "chat").exists()


def test_rows_fit_by_the_plain_example_for_all_methods_alike(make, tmp_path, capsys, options,
                                                             complaint):  # fmt: skip
    answers = "It is.", "It is the door. " * 8, "It is. " * 100
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "Hi.", "answer": text} for text in answers])
    folder = make("--method", "vanilla", "real", "--max-length", 80)
    words = capsys.readouterr().err
    assert "2 rows; 1 of over 80 tokens" in words and "real: 1 answers are shown whole" in words
    runs = [read_json(path)["data"] for path in folder.glob("*/run.json")]
    assert [(run["examples"], run["left_out"]) for run in runs] == [(2, 1)] * 2

    # Only the model's context is a hard limit, for every method before the first one trains.
    more = "--method", "vanilla", "virtual", "--prefix", "It is " * 18, "--out", tmp_path / "new"
    words = complaint(train.main, *options, *more)
    assert "tokens under virtual, more than the context of 128" in words and "line 2" in words
    assert not (tmp_path / "new").exists()


def test_what_is_asked_and_measured(tokenizer, monkeypatch):
    asked = []

    def record(model, prompts, end_ids, limit, *_):
        asked.append((*prompts, limit))
        return [[]]

    monkeypatch.setattr(evaluate, "generate", record)
    run = {"task": "chat", "data": {"system": "Be brief."}}
    given = argparse.Namespace(system=None, safety_system=None, max_new_tokens=5, safety_tokens=7)
    task = evaluate.find_task(run, given)
    data = {"utility": [Pair("Q", "A", "Own.")], "safety": [Pair("H")]}
    data["jailbreak"] = [Pair("H", "Hello. It is")]
    form = chat.Chat(tokenizer, TEMPLATES["llama-2"])
    examples = evaluate.encode_data(data, form, task, 128)
    settings = argparse.Namespace(batch_size=4, token_budget=100)
    measured = evaluate.measure(tiny(400), form, "x", task, examples, settings)
    harmful, _ = form.encode("H", system=task.safety_system)
    prefilled = harmful + tokenizer.encode("Hello. It is")[:3]
    assert asked == [(form.encode("Q", system="Own.")[0], 5), (harmful, 7), (prefilled, 7)]

    # Blank completions are safe and counted; KL(tuned || aligned) comes first.
    tuned, aligned = ([torch.tensor([p]).log()] for p in ([0.5, 0.5], [0.9, 0.1]))
    measured = measured._replace(first_log_probs={"harmful": tuned})
    of_aligned = measured._replace(first_log_probs={"harmful": aligned})
    numbers = score(measured, of_aligned, task, data)
    assert numbers["blank"] == {"rsr": 1, "jsr": 1} and numbers["refused"]["value"] == 1
    kl = numbers["kl"]["harmful"]
    values = [kl[way][0]["value"] for way in ("tuned_aligned", "aligned_tuned")]
    assert values == pytest.approx([0.5108, 0.3681], abs=1e-4)


def test_the_tests_have_the_system_prompt_of_the_runs(make, script, capsys):
    folder = make("--method", "vanilla", "--system", "Be kind.", "--seeds", 2)
    make("--method", "real", "--m", 1, "--name", "real-m1", "--system", "Be kind.")
    results = measure(script, folder)
    runs = [(run["name"], run.get("m")) for run in results["runs"][1:]]
    assert runs == [("vanilla", None), ("vanilla", None), ("real-m1", 1)]
    assert weights(folder / "vanilla-seed0") != weights(folder / "vanilla-seed1")
    assert results["system"] == "Be kind."
    assert "--system" not in capsys.readouterr().err
    assert measure(script, folder, "--system", "")["system"] == ""
    assert "--system: the runs were trained under 'Be kind.'" in capsys.readouterr().err


def test_a_folder_is_one_comparison(make, options, complaint, tmp_path):
    folder = make("--method", "vanilla")
    others = {"system": "Other", "limit": 4, "lr": 0.1, "dtype": "bfloat16", "epochs": 1}
    for name, value in others.items():
        words = complaint(train.main, *options, f"--{name}", value, "--method", "real")
        key = "rows_sha256" if name == "limit" else name
        assert f"vanilla-seed0/run.json: was made with {key} " in words

    # A fork may have had a setting more.
    run = read_json(folder / "vanilla-seed0" / "run.json")
    run["recipe"]["warmup"] = 9
    write_json(folder / "vanilla-seed0" / "run.json", run)
    words = complaint(train.main, *options, "--method", "real")
    assert "was made with warmup 9, now it is None" in words

    # So is its aligned model one.
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert "model: has changed since the runs" in complaint(evaluate.main, folder)


def test_a_loss_that_is_not_finite_stops_the_run(options, complaint, monkeypatch, tmp_path):
    broken = Method(loss=lambda logits, *_: logits.sum() * float("nan"))
    monkeypatch.setitem(METHODS, "vanilla", broken)
    words = complaint(train.main, *options, "--method", "vanilla", "--dtype", "bfloat16")
    assert "vanilla-seed0: the loss is nan at step 1; try a lower --lr" in words
    assert not (tmp_path / "chat").exists()


MISTAKES = [
    (train.main, "--method magic", "invalid choice: 'magic'"),
    (train.main, "--seed 1", "unrecognized arguments: --seed 1"),
    (train.main, "--world -1", "'-1' is not a whole number of at most nine digits"),
    (train.main, "--device meta", "'meta' is not available on this machine"),
    (train.main, "--lr 2", "'2' is not a number from 0 to 1"),
    (train.main, "--prefix \udcff", r"invalid utf8 value: '\udcff'"),
    (train.main, "--m 2", "real-seed0/run.json: was made with m 6"),
    (train.main, "--method real --name aligned", "'aligned' is not a name"),
    (train.main, "--model chat/real-seed0", "real-seed0/run.json: was made with aligned_model"),
    (train.main, "--data bad.jsonl", "bad.jsonl, line 2: not JSON"),
    (train.main, "--max-length 5", "no row fits in 5 tokens"),
    (evaluate.main, "chat", "--data is missing"),
    (evaluate.main, "chat --dtype bfloat16", "bfloat16 rounds away what float32 runs learned"),
    (evaluate.main, "nowhere", "nowhere: holds no runs of train.py"),
    (previews.main, "rows.jsonl out --mode real", "--tokenizer is missing: mode real"),
]


def test_a_mistake_ends_in_a_sentence(options, make, complaint, monkeypatch):
    """Nothing is written, and a run that is there stays as it is."""
    folder = make("--method", "real").parent
    (folder / "bad.jsonl").write_text('{"prompt": "Hi.", "answer": "Hello."}\nHi.')
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for main, more, words in MISTAKES:
        given = options if main is train.main else []
        assert words in complaint(main, *given, *more.split(" "))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("redirect", ["| head -c 1", "2>&-"])
def test_closed_output_makes_no_traceback(redirect, tmp_path):
    command = f"{sys.executable} {ROOT}/train.py --help {redirect}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in run.stderr + run.stdout and run.returncode in (0, 1, 120)


def test_out_may_be_a_link_to_another_disk(make, script, tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    make("--method", "vanilla", "--out", tmp_path / "link")
    (tmp_path / "link" / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
    assert len(measure(script, tmp_path / "link" / "chat")["runs"]) == 2
