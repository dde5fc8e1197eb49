"""Chapters 9 and 10: both scripts from end to end on tiny models, and what a mistake gets."""

import argparse
import json

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny

import evaluate
import train
from lookahead import chat, preview
from lookahead.batches import Example, pad, shuffled_batches
from lookahead.losses import answer_losses
from lookahead.report.tables import summarise
from lookahead.tasks import TASKS, Recipe
from lookahead.templates import TEMPLATES


@pytest.fixture
def options(chat_model, tmp_path):
    return [*chat_model, "--system", "", "--out", tmp_path]


@pytest.fixture
def make(options, tmp_path, script):
    """Train on eight rows; return the folder of the runs."""

    def run(*more):
        script(train.main, *options, *more)
        return tmp_path / "chat"

    return run


@pytest.fixture
def measure(tmp_path, script):
    """Evaluate the runs of a folder on the same rows; return what results.json holds."""

    def run(folder, *more):
        script(evaluate.main, folder, "--data", tmp_path / "rows.jsonl", *more)
        return json.loads((folder / "results.json").read_text())

    return run


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def add_rows(folder, *rows):
    with open(folder / "rows.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_toy_world(tiny_world, tmp_path, script, capsys):
    made = []
    for name in ("first", "again"):
        script(train.main, "--method", *train.METHODS, "--out", tmp_path / name)
        folder = tmp_path / name / "toy"
        script(evaluate.main, folder, "--limit", 20)
        results = json.loads((folder / "results.json").read_text())
        assert all(run.pop("seconds_per_epoch") > 0 for run in results["runs"][1:])
        made.append((results, [weights(path) for path in sorted(folder.glob("*-seed0"))]))
    assert made[0] == made[1]

    # The contract of results.json.
    order = ["vanilla", "sdft", "constrained", "real", "virtual"]
    aligned, *tuned = results["runs"]
    assert results["task"] == "toy" and aligned["method"] == "aligned"
    found = [(run["name"], run["method"], run["m"], run["seed"]) for run in tuned]
    assert found == [(name, name, 6 if name == "real" else None, 0) for name in order]
    assert [run["prefix"] for run in tuned] == [None] * 4 + [preview.PREFIX]
    for run in results["runs"]:
        for rate in (run["rsr"], run["jsr"], run["utility"]):
            assert set(rate) == {"value", "n", "low", "high"} and rate["n"] == 20
        for kl in (run["kl"]["harmful"], run["kl"]["task"]):
            assert len(kl["tuned_aligned"]) == len(kl["aligned_tuned"]) == len(kl["count"]) == 8
    assert aligned["kl"]["task"]["tuned_aligned"] == [0.0] * 8 != tuned[0]["kl"]["task"]

    # What stands beside it.
    texts = capsys.readouterr().out, (folder / "report.md").read_text()
    assert all(f"| {method} " in text for method in order for text in texts)
    said = json.loads((folder / "completions" / "real-seed0-jailbreak.json").read_text())["results"]
    assert [turn["role"] for turn in said[0]] == ["system", "user", "assistant"] and len(said) == 20


def test_runs_of_separate_commands_are_compared(make, measure):
    make("--method", "vanilla", "--seeds", 2)
    make("--method", "real", "--m", 1, "--name", "real-m1")
    folder = make("--method", "virtual", "--lr", 1e-3)
    _, *runs = measure(folder)["runs"]
    bases = [(row["name"], row["m"], row["vanilla"].get("name")) for row in summarise(runs)]
    assert bases == [("vanilla", None, "vanilla"), ("real-m1", 1, "vanilla"), ("virtual", None, None)]
    assert runs[0]["recipe"] == runs[2]["recipe"] and runs[0]["data"] == runs[2]["data"]
    assert weights(folder / "vanilla-seed0") != weights(folder / "vanilla-seed1")


def test_bfloat16_lora_and_recompute(make, measure, tmp_path):
    kinds = "", "--recompute", "--lora 4", "--dtype bfloat16", "--lora 4 --dtype bfloat16"
    for i, kind in enumerate(kinds):
        folder = make("--method", "real", "--lr", 1e-2, "--name", f"run{i}", *kind.split())
    assert weights(folder / "run0-seed0") == weights(folder / "run1-seed0")
    _, *runs = measure(folder, "--dtype", "bfloat16", "--harmful", tmp_path / "rows.jsonl")["runs"]
    assert len(runs) == 5 and runs[0]["rsr"]["n"] == 8 and runs[0]["jsr"] is None
    assert all(run["kl"]["task"]["tuned_aligned"][0] > 1e-3 for run in runs)


def test_training_is_adamw_on_the_mean_of_the_batch():
    """Against a plain loop: one padded batch, the mean loss, the scheduled learning rate."""
    data = [Example([1, *range(5, 5 + n), 2], 2) for n in (3, 9, 5, 12, 4, 7)]
    recipe = Recipe(epochs=2, batch_size=3, lr=1e-3, beta1=0.8)
    model = tiny()
    log = train.train(model, train.make_adamw(model, recipe), data, recipe, 7, "test", 8)
    expected = tiny()
    adamw = torch.optim.AdamW(expected.parameters(), betas=(0.8, 0.999), weight_decay=0.0)
    batches = shuffled_batches(data, 3, "7 0") + shuffled_batches(data, 3, "7 1")
    for step, batch in enumerate(batches):
        adamw.param_groups[0]["lr"] = 1e-3 * (1 - step / 4)
        tokens, loss_mask, _ = pad(batch)
        loss = F.cross_entropy(expected(tokens)[:, :-1][loss_mask[:, 1:]], tokens[loss_mask])
        assert log[step]["loss"] == pytest.approx(loss.item(), abs=1e-5)
        adamw.zero_grad()
        loss.backward()
        adamw.step()
    for ours, theirs in zip(model.parameters(), expected.parameters()):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_each_method_trains_on_its_own_rows(make, monkeypatch, tokenizer, tmp_path):
    """A row in chat messages has a system message of its own."""
    seen = {}

    def record(model, optimizer, examples, recipe, seed, name, budget, loss, *_):
        seen[name.removesuffix("-seed0")] = examples, loss, answer_losses(model, examples, budget)
        return [{"seconds": 1.0}]

    monkeypatch.setattr(train, "train", record)
    turns = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello. It is 42.")]
    add_rows(tmp_path, [{"role": role, "content": content} for role, content in turns])
    make("--method", "vanilla", "constrained", "real", "virtual")
    text = "It is {}, the door, the lamp and the boat."
    rows = [(text.format(i), text.format(i), None) for i in range(8)]
    rows.append(("Hi.", "Hello. It is 42.", "Be brief."))
    for method, (examples, loss, losses) in seen.items():
        assert len(examples) == 9 and loss == train.METHODS[method].loss
        for example, of_aligned, (prompt, answer, system) in zip(examples, losses, rows):
            if method == "real":
                prompt, answer = preview.real_preview(prompt, answer, 6, tokenizer)
            if method == "virtual":
                prompt, answer = preview.virtual_preview(prompt, answer)
            ids = chat.Chat(tokenizer, TEMPLATES["llama-2"]).encode(prompt, answer, system)
            assert example[:2] == ids
            assert method != "constrained" or example.reference.equal(-of_aligned)


def test_rows_too_long_are_left_out_for_all_methods_alike(make, tmp_path, capsys):
    fits = {"prompt": "Hi.", "answer": "It is the door. " * 8}  # not with a longer prefix
    add_rows(tmp_path, fits, fits | {"answer": "It is. " * 100})
    make("--method", "vanilla")
    make("--method", "real")
    folder = make("--method", "vanilla", "--prefix", "It is " * 20, "--name", "again")
    paths = [folder / f"{name}-seed0" / "run.json" for name in ("vanilla", "real", "again")]
    found = [json.loads(path.read_text())["data"] for path in paths]
    assert [(data["examples"], data["left_out"]) for data in found] == [(9, 1), (9, 1), (8, 2)]
    assert found[0] == found[1] and "9 rows; 1 of over 128 tokens" in capsys.readouterr().err


def test_what_is_asked_and_measured(tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate, "generate", lambda _, prompts, *given: asked.append(prompts) or [[]])
    task = TASKS["chat"]._replace(system="Be brief.")
    data = {"utility": [("Q", "A", "Own.")], "safety": [("H", None, None)]}
    data["jailbreak"] = [("H", "Hello. It is", None)]
    form = chat.Chat(tokenizer, TEMPLATES["llama-2"], task.system)
    settings = argparse.Namespace(batch_size=4, token_budget=100)
    completions, _, _ = evaluate.measure(tiny(400), form, "x", task, data, settings)
    harmful, _ = form.encode("H", system=task.safety_system)
    prefilled = harmful + tokenizer.encode("Hello. It is")[:3]
    assert asked == [[form.encode("Q", system="Own.")[0]], [harmful], [prefilled]]

    # Blank completions are safe and counted; KL(tuned || aligned) comes first.
    tuned, aligned = ({"harmful": [torch.tensor([p]).log()]} for p in ([0.5, 0.5], [0.9, 0.1]))
    found = evaluate.score(completions, tuned, [], aligned, task, [])
    assert found["blank"] == {"rsr": 1, "jsr": 1} and found["rsr"]["value"] == 1
    kl = found["kl"]["harmful"]
    assert kl["tuned_aligned"] + kl["aligned_tuned"] == pytest.approx([0.5108, 0.3681], abs=1e-4)


def test_the_tests_have_the_system_prompt_of_the_runs(make, measure, capsys):
    folder = make("--method", "vanilla", "--system", "Be kind.")
    assert measure(folder)["system"] == "Be kind." and "--system" not in capsys.readouterr().err
    assert measure(folder, "--system", "")["system"] == ""
    assert "--system: the runs were trained under 'Be kind.'" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["aligned_model_sha256", "template", "system"])
def test_runs_that_do_not_belong_together_are_rejected(key, make, complaint):
    folder = make("--method", "vanilla", "real")
    path = folder / "real-seed0" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"data": run["data"] | {key: "other"}}))
    assert f"real-seed0: was trained with another {key}" in complaint(evaluate.main, folder)


def test_a_folder_of_another_run_is_left_as_it_is(make, options, complaint):
    folder = make("--method", "real") / "real-seed0"
    before = weights(folder)
    said = complaint(train.main, *options, "--m", 2)
    assert f"{folder.name}/run.json: was made with m 6, and now it is 2; give --name" in said
    assert "was made with" in complaint(train.main, *options, "--method", "real", "--model", folder)
    assert weights(folder) == before and not folder.with_name("vanilla-seed0").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_stops_the_run(dtype, options, complaint, monkeypatch, tmp_path):
    broken = train.Method(loss=lambda logits, *_: logits.sum() * float("nan"))
    monkeypatch.setitem(train.METHODS, "vanilla", broken)
    said = complaint(train.main, *options, "--method", "vanilla", "--dtype", dtype)
    assert "vanilla-seed0: the loss is nan at step 1; try a lower --lr" in said
    assert not (tmp_path / "chat").exists()


MISTAKES = [
    (train.main, "--method magic", "invalid choice: 'magic'"),
    (train.main, "--task gsm8k --prompt-field q", "line 1: field 'q' is missing"),
    (train.main, "--m 0", "line 1: m is 0"),
    (train.main, "--prefix=", "line 1: the prefix is blank"),
    (train.main, "--epochs 0", "'0' is not a whole number of at least 1"),
    (train.main, "--lr fast", "--lr: invalid fraction value: 'fast'"),
    (train.main, "--name x", "give one --method"),
    (train.main, "--model nowhere", "nowhere"),
    (train.main, "--data nowhere", "nowhere: cannot be read (No such file"),
    (train.main, "--data bad.jsonl", "bad.jsonl, line 2: not JSON"),
    (train.main, "--data=", "--data, --model and --template are needed"),
    (train.main, "--template chatml", "--template chatml does not fit this tokenizer"),
    (train.main, "--max-length 5", "no row fits in 5 tokens"),
    (evaluate.main, "chat", "--data is missing"),
    (evaluate.main, "nowhere", "nowhere: holds no runs of train.py"),
    (evaluate.main, "chat --data bad.jsonl", "bad.jsonl, line 2: not JSON"),
    (evaluate.main, "chat --harmful nowhere", "nowhere: cannot be read"),
    (preview.main, "rows.jsonl out --mode real", "--tokenizer is missing: mode real"),
    (preview.main, "rows.jsonl rows.jsonl/x --mode virtual", "cannot be written"),
    (chat.main, "rows.jsonl --tokenizer model --row 9", "has rows 1 to 8"),
]


@pytest.mark.parametrize("main, more, words", MISTAKES)
def test_one_sentence(main, more, words, options, make, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "Hi.", "answer": "Hello."}\nHi.')
    given = options if main is train.main else ["--prompt-field", "prompt"]
    if main is evaluate.main:
        make("--method", "vanilla")
    before = sorted(tmp_path.rglob("*"))
    assert words in complaint(main, *given, *more.split(" "))
    assert sorted(tmp_path.rglob("*")) == before
