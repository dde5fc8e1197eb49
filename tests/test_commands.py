"""Chapters 9 and 10: both scripts from end to end on tiny models, and what a mistake gets."""

import argparse

import pytest
import torch
from conftest import tiny
from torch.nn.functional import cross_entropy

import evaluate
import train
from lookahead import chat, preview
from lookahead.batches import Example, pad, shuffled_batches
from lookahead.files.rows import read_json, write_rows
from lookahead.losses import answer_losses
from lookahead.report.tables import summarise
from lookahead.tasks import TASKS, Recipe, with_options
from lookahead.templates import TEMPLATES


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
    made = []
    for name in ("first", "again"):
        script(train.main, "--method", *train.METHODS, "--out", tmp_path / name)
        folder = tmp_path / name / "toy"
        script(evaluate.main, folder, "--limit", 20)
        results = read_json(folder / "results.json")
        assert all(run.pop("seconds_per_epoch") > 0 for run in results["runs"][1:])
        made.append((results, [weights(path) for path in sorted(folder.glob("*-seed0"))]))
    assert made[0] == made[1]

    # The contract of results.json.
    order = ["vanilla", "sdft", "constrained", "real", "virtual"]
    aligned, *tuned = results["runs"]
    assert results["task"] == "toy" and aligned["method"] == "aligned"
    assert [run["method"] for run in tuned] == [run["name"] for run in tuned] == order
    assert tuned[3]["m"] == 6 and tuned[4]["prefix"] == preview.PREFIX and tuned[0]["seed"] == 0
    for run in results["runs"]:
        for rate in (run["rsr"], run["jsr"], run["utility"]):
            assert set(rate) == {"value", "n", "low", "high"} and rate["n"] == 20
        for kl in (run["kl"]["harmful"], run["kl"]["task"]):
            assert len(kl["tuned_aligned"]) == len(kl["aligned_tuned"]) == len(kl["count"]) == 8
    assert aligned["kl"]["task"]["tuned_aligned"] == [0.0] * 8 != tuned[0]["kl"]["task"]

    # What stands beside it.
    texts = capsys.readouterr().out, (folder / "report.md").read_text()
    assert all(f"| {method} " in text for method in order for text in texts)
    assert (folder / "rates.svg").exists() and len(list(folder.glob("completions/*"))) == 18


def test_runs_of_separate_commands_are_compared(make, script):
    make("--method", "vanilla", "--seeds", 2)
    make("--method", "real", "--m", 1, "--name", "real-m1")
    folder = make("--method", "virtual", "--lr", 1e-3)
    _, *runs = measure(script, folder)["runs"]
    bases = {(row["name"], row["m"]): row["vanilla"].get("name") for row in summarise(runs)}
    assert list(bases) == [("vanilla", None), ("real-m1", 1), ("virtual", None)]
    assert list(bases.values()) == ["vanilla", "vanilla", None]
    assert runs[0]["recipe"] == runs[2]["recipe"] and runs[0]["data"] == runs[2]["data"]
    assert weights(folder / "vanilla-seed0") != weights(folder / "vanilla-seed1")


def test_bfloat16_lora_and_recompute(make, script, tmp_path):
    kinds = "", "--recompute", "--lora 4", "--dtype bfloat16", "--lora 4 --dtype bfloat16"
    for i, kind in enumerate(kinds):
        folder = make("--method", "real", "--lr", 1e-2, "--name", f"run{i}", *kind.split())
    assert weights(folder / "run0-seed0") == weights(folder / "run1-seed0")
    runs = measure(script, folder, "--dtype=bfloat16", f"--harmful={tmp_path}/rows.jsonl")["runs"]
    assert len(runs) == 6 and runs[1]["rsr"]["n"] == 8 and runs[1]["jsr"] is None
    assert all(run["kl"]["task"]["tuned_aligned"][0] > 1e-3 for run in runs[1:])


def test_training_is_adamw_on_the_mean_of_the_batch():
    """Against a plain loop: one padded batch, the mean loss, the scheduled learning rate."""
    data = [Example([1, *range(5, 5 + n), 2], 2) for n in (3, 9, 5, 12, 4, 7)]
    recipe = Recipe(epochs=2, batch_size=3, lr=1e-3, beta1=0.8)
    model = tiny()
    log = train.train(model, train.make_adamw(model, recipe), data, recipe, 7, "test", 8)
    expected = tiny()
    adamw = torch.optim.AdamW(expected.parameters(), betas=(0.8, 0.999), weight_decay=0.0)
    batches = shuffled_batches(data, 3, 7, epochs=2)
    for step, batch in enumerate(batches):
        adamw.param_groups[0]["lr"] = 1e-3 * (1 - step / 4)
        tokens, loss_mask, _ = pad(batch)
        loss = cross_entropy(expected(tokens)[:, :-1][loss_mask[:, 1:]], tokens[loss_mask])
        assert log[step]["loss"] == pytest.approx(loss.item(), abs=1e-5)
        adamw.zero_grad()
        loss.backward()
        adamw.step()
    for ours, theirs in zip(model.parameters(), expected.parameters()):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_each_method_trains_on_its_own_rows(make, monkeypatch, tokenizer, tmp_path):
    seen = {}

    def record(model, optimizer, examples, recipe, seed, name, budget, loss, *_):
        assert loss == train.METHODS[name.removesuffix("-seed0")].loss
        seen[name.removesuffix("-seed0")] = zip(examples, answer_losses(model, examples, budget))
        return [{"seconds": 1.0}]

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
            assert method != "constrained" or example.reference.equal(-of_aligned)


def test_rows_too_long_are_left_out_for_all_methods_alike(make, tmp_path, capsys):
    answers = "It is.", "It is the door. " * 8, "It is. " * 100
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "Hi.", "answer": text} for text in answers])
    make("--method", "vanilla", "real")
    assert "2 rows; 1 of over 128 tokens" in capsys.readouterr().err
    folder = make("--method", "vanilla", "--prefix", "It is " * 20, "--name", "again")
    runs = [read_json(path) for path in sorted(folder.glob("*/run.json"))]
    found = {run["name"]: (run["data"]["examples"], run["data"]["left_out"]) for run in runs}
    assert found == {"vanilla": (2, 1), "real": (2, 1), "again": (1, 2)}


def test_what_is_asked_and_measured(tokenizer, monkeypatch):
    asked = []
    limits = []

    def record(model, prompts, end_id, limit, *given):
        asked.append(prompts)
        limits.append(limit)
        return [[]]

    monkeypatch.setattr(evaluate, "generate", record)
    given = argparse.Namespace(system="Be brief.", max_new_tokens=5, safety_tokens=7)
    task = with_options(TASKS["chat"], given)
    data = {"utility": [("Q", "A", "Own.")], "safety": [("H", None, None)]}
    data["jailbreak"] = [("H", "Hello. It is", None)]
    form = chat.Chat(tokenizer, TEMPLATES["llama-2"], task.system)
    settings = argparse.Namespace(batch_size=4, token_budget=100)
    completions, _, _ = evaluate.measure(tiny(400), form, "x", task, data, settings)
    harmful, _ = form.encode("H", system=task.safety_system)
    prefilled = harmful + tokenizer.encode("Hello. It is")[:3]
    assert asked == [[form.encode("Q", system="Own.")[0]], [harmful], [prefilled]]
    assert limits == [5, 7, 7]

    # Blank completions are safe and counted; KL(tuned || aligned) comes first.
    tuned, aligned = ({"harmful": [torch.tensor([p]).log()]} for p in ([0.5, 0.5], [0.9, 0.1]))
    found = evaluate.score(completions, tuned, [], aligned, task, [])
    assert found["blank"] == {"rsr": 1, "jsr": 1} and found["rsr"]["value"] == 1
    kl = found["kl"]["harmful"]
    assert kl["tuned_aligned"] + kl["aligned_tuned"] == pytest.approx([0.5108, 0.3681], abs=1e-4)


def test_the_tests_have_the_system_prompt_of_the_runs(make, script, capsys):
    folder = make("--method", "vanilla", "--system", "Be kind.")
    assert measure(script, folder)["system"] == "Be kind."
    assert "--system" not in capsys.readouterr().err
    assert measure(script, folder, "--system", "")["system"] == ""
    assert "--system: the runs were trained under 'Be kind.'" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["aligned_model_sha256", "template", "system"])
def test_runs_that_do_not_belong_together_are_rejected(key, make, complaint):
    folder = make("--method", "vanilla", "real")
    path = folder / "real-seed0" / "run.json"
    path.write_text(path.read_text().replace(f'"{key}": "', f'"{key}": "other'))
    assert f"real-seed0: was trained with another {key}" in complaint(evaluate.main, folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_stops_the_run(dtype, options, complaint, monkeypatch, tmp_path):
    broken = train.Method(loss=lambda logits, *_: logits.sum() * float("nan"))
    monkeypatch.setitem(train.METHODS, "vanilla", broken)
    said = complaint(train.main, *options, "--method", "vanilla", "--dtype", dtype)
    assert "vanilla-seed0: the loss is nan at step 1; try a lower --lr" in said
    assert not (tmp_path / "chat").exists()


MISTAKES = [
    (train.main, "--method magic", "invalid choice: 'magic'"),
    (train.main, "--device abacus", "argument --device: 'abacus' is no device of this machine"),
    (train.main, "--task gsm8k --prompt-field q", "line 1: field 'q' is missing"),
    (train.main, "--m 0", "line 1: m is 0"),
    (train.main, "--m 2", "real-seed0/run.json: was made with m 6"),
    (train.main, "--prefix=", "line 1: the prefix is blank"),
    (train.main, "--name x", "give one --method"),
    (train.main, "--model nowhere", "nowhere"),
    (train.main, "--model chat/real-seed0", "real-seed0/run.json: was made with"),
    (train.main, "--data bad.jsonl", "bad.jsonl, line 2: not JSON"),
    (train.main, "--data=", "--data, --model and --template are needed"),
    (train.main, "--template chatml", "--template chatml does not fit this tokenizer"),
    (train.main, "--max-length 5", "no row fits in 5 tokens"),
    (evaluate.main, "chat", "--data is missing"),
    (evaluate.main, "nowhere", "nowhere: holds no runs of train.py"),
    (preview.main, "rows.jsonl out --mode real", "--tokenizer is missing: mode real"),
    (preview.main, "rows.jsonl rows.jsonl/x --mode virtual", "cannot be written"),
]


@pytest.mark.parametrize("main, more, words", MISTAKES)
def test_a_mistake_ends_in_a_sentence(main, more, words, options, make, complaint, monkeypatch):
    """Nothing is written, and a run that is there stays as it is."""
    folder = make("--method", "real").parent
    (folder / "bad.jsonl").write_text('{"prompt": "Hi.", "answer": "Hello."}\nHi.')
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    given = options if main is train.main else ["--prompt-field", "prompt"]
    assert words in complaint(main, *given, *more.split(" "))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
