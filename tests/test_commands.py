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
from lookahead.cli import run_script
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
    texts = []
    for name in ("first", "again"):
        script(train.main, "--method", *train.METHODS, "--out", tmp_path / name)
        folder = tmp_path / name / "toy"
        script(evaluate.main, folder, "--limit", 20)
        results = json.loads((folder / "results.json").read_text())
        for run in results["runs"]:
            run.pop("seconds_per_epoch", None)
        texts.append(json.dumps(results))
        texts.append(b"".join(map(weights, sorted(folder.glob("*-seed0")))))
    assert texts[:2] == texts[2:]

    # The contract of results.json.
    order = ["vanilla", "sdft", "constrained", "real", "virtual"]
    aligned, *tuned = results["runs"]
    assert results["task"] == "toy" and aligned["method"] == "aligned"
    assert [run["method"] for run in tuned] == order and tuned[0]["seed"] == 0
    assert [run["m"] for run in tuned] == [None, None, None, 6, None]
    assert tuned[4]["prefix"] == "Let's solve this problem. "
    for run in results["runs"]:
        for rate in ("rsr", "jsr", "utility"):
            assert set(run[rate]) == {"value", "n", "low", "high"} and run[rate]["n"] == 20
        for kl in run["kl"].values():
            assert len(kl["tuned_aligned"]) == len(kl["aligned_tuned"]) == len(kl["count"]) == 8
    assert aligned["kl"]["harmful"]["tuned_aligned"] == [0.0] * 8
    assert tuned[0]["kl"]["task"]["tuned_aligned"][0] > 1e-6

    # What stands beside it.
    shown = capsys.readouterr().out
    report = (folder / "report.md").read_text()
    assert all(f"| {method} " in shown and f"| {method} " in report for method in order)
    said = json.loads((folder / "completions" / "real-seed0-jailbreak.json").read_text())["results"]
    assert [[turn["role"] for turn in turns] for turns in said] == [["system", "user", "assistant"]] * 20


def test_runs_of_separate_commands_are_compared(make, measure):
    make("--method", "vanilla", "--seeds", 2)
    make("--method", "real", "--m", 1, "--name", "real-m1")
    folder = make("--method", "virtual", "--lr", 1e-3)
    _, *runs = measure(folder)["runs"]
    found = [(run["name"], run["method"], run["m"], run["seed"]) for run in runs]
    vanilla = [("vanilla", "vanilla", None, seed) for seed in (0, 1)]
    assert found == [*vanilla, ("real-m1", "real", 1, 0), ("virtual", "virtual", None, 0)]
    bases = [row["vanilla"].get("name") for row in summarise(runs)]
    assert bases == ["vanilla", "vanilla", None]
    assert runs[0]["recipe"] == runs[2]["recipe"] and runs[0]["data"] == runs[2]["data"]
    assert weights(folder / "vanilla-seed0") != weights(folder / "vanilla-seed1")


def test_bfloat16_lora_and_recompute(make, measure, tmp_path):
    for name, more in {
        "plain": [],
        "recompute": ["--recompute"],
        "lora": ["--lora", 4],
        "bf16": ["--dtype", "bfloat16"],
        "both": ["--lora", 4, "--dtype", "bfloat16"],
    }.items():
        folder = make("--method", "real", "--lr", 1e-2, "--name", name, *more)
    assert weights(folder / "recompute-seed0") == weights(folder / "plain-seed0")
    _, *runs = measure(folder, "--dtype", "bfloat16", "--harmful", tmp_path / "rows.jsonl")["runs"]
    assert len(runs) == 5 and runs[0]["rsr"]["n"] == 8 and runs[0]["jsr"] is None
    assert all(run["kl"]["task"]["tuned_aligned"][0] > 1e-3 for run in runs)


def test_training_is_adamw_on_the_mean_of_the_batch():
    """Against a plain loop: one padded batch, the mean loss, the scheduled learning rate."""
    data = [Example([1, *range(5, 5 + n), 2], 2) for n in (3, 9, 5, 12, 4, 7)]
    recipe = Recipe(epochs=2, batch_size=3, lr=1e-3, beta1=0.8)
    expected = tiny()
    adamw = torch.optim.AdamW(expected.parameters(), betas=(0.8, 0.999), weight_decay=0.0)
    batches = shuffled_batches(data, 3, "7 0") + shuffled_batches(data, 3, "7 1")
    for step, batch in enumerate(batches):
        adamw.param_groups[0]["lr"] = 1e-3 * (1 - step / 4)
        tokens, loss_mask, _ = pad(batch)
        logits = expected(tokens)[:, :-1][loss_mask[:, 1:]]
        loss = F.cross_entropy(logits, tokens[:, 1:][loss_mask[:, 1:]])
        adamw.zero_grad()
        loss.backward()
        adamw.step()
    for budget in (8, 1000):
        model = tiny()
        log = train.train(model, train.make_adamw(model, recipe), data, recipe, 7, "test", budget)
        assert len(log) == 4 and log[-1]["loss"] == pytest.approx(loss.item(), abs=1e-5)
        for ours, theirs in zip(model.parameters(), expected.parameters()):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_each_method_trains_on_its_own_rows(make, monkeypatch, tokenizer, tmp_path):
    """One row in chat messages has a system message of its own."""
    seen = {}

    def record(model, optimizer, examples, recipe, seed, name, budget, loss, *_):
        seen[name.removesuffix("-seed0")] = examples, loss, answer_losses(model, examples, budget)
        return [{"seconds": 1.0}]

    def rewrite(pairs, *_):
        return [pair._replace(answer="Well. " + pair.answer) for pair in pairs], {}

    turns = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello. It is 42.")]
    add_rows(tmp_path, [{"role": role, "content": content} for role, content in turns])
    pairs = [(f"It is {i}, the door, the lamp and the boat.",) * 2 for i in range(8)]
    pairs = [(*pair, None) for pair in pairs] + [("Hi.", "Hello. It is 42.", "Be brief.")]
    monkeypatch.setattr(train, "train", record)
    monkeypatch.setitem(train.METHODS, "sdft", train.Method(data=rewrite))
    make("--method", *train.METHODS)
    form = chat.Chat(tokenizer, TEMPLATES["llama-2"])
    for method, (examples, loss, losses) in seen.items():
        for example, of_aligned, (prompt, answer, system) in zip(examples, losses, pairs):
            if method == "real":
                prompt, answer = preview.real_preview(prompt, answer, 6, tokenizer)
            elif method == "virtual":
                prompt, answer = preview.virtual_preview(prompt, answer)
            elif method == "sdft":
                answer = "Well. " + answer
            assert example[:2] == form.encode(prompt, answer, system)
            if method == "constrained":
                assert example.reference.equal(-of_aligned)
        assert len(examples) == 9 and loss == train.METHODS[method].loss


def test_rows_too_long_are_left_out_for_all_methods_alike(make, tmp_path, capsys):
    fits = {"prompt": "Hi.", "answer": "It is the door. " * 8}  # alone, and not with a prefix
    add_rows(tmp_path, fits, fits | {"answer": "It is. " * 100})
    for name, more in {"vanilla": [], "real": [], "again": ["--prefix", "It is " * 20]}.items():
        folder = make("--method", name.replace("again", "vanilla"), "--name", name, *more)
    paths = [folder / f"{name}-seed0" / "run.json" for name in ("vanilla", "real", "again")]
    found = [json.loads(path.read_text())["data"] for path in paths]
    assert [(data["examples"], data["left_out"]) for data in found] == [(9, 1), (9, 1), (8, 2)]
    assert found[0] == found[1] and "9 rows; 1 of over 128 tokens" in capsys.readouterr().err


def test_the_tests_prompts_and_numbers(tokenizer, monkeypatch):
    asked = {}
    monkeypatch.setattr(evaluate, "generate", lambda _, prompts, *given: asked.update(
        {given[-1]: prompts}) or [[]] * len(prompts))  # fmt: skip
    task = TASKS["chat"]._replace(system="Be brief.")
    data = {"utility": [("Q", "It is 42.", None), ("Q", "A", "Own.")]}
    data |= {"safety": [("H", None, None)], "jailbreak": [("H", "Hello. It is", None)]}
    form = chat.Chat(tokenizer, TEMPLATES["llama-2"], task.system)
    settings = argparse.Namespace(batch_size=4, token_budget=100)
    completions, _, _ = evaluate.measure(tiny(400), form, "x", task, data, settings)
    harmful, _ = form.encode("H", system=task.safety_system)
    assert asked["x: utility"] == [form.encode("Q")[0], form.encode("Q", system="Own.")[0]]
    assert asked["x: safety"] == [harmful]
    assert asked["x: jailbreak"] == [harmful + tokenizer.encode("Hello. It is")[:3]]

    # Blank completions are safe and counted; KL(tuned || aligned) comes first.
    log_probs = [{"harmful": [torch.tensor([p]).log()]} for p in ([0.5, 0.5], [0.9, 0.1])]
    found = evaluate.score(completions | {"utility": []}, log_probs[0], [], log_probs[1], task, [])
    assert found["blank"] == {"rsr": 1, "jsr": 1} and found["rsr"]["value"] == 1
    assert found["kl"]["harmful"]["tuned_aligned"] == pytest.approx([0.5108], abs=1e-4)
    assert found["kl"]["harmful"]["aligned_tuned"] == pytest.approx([0.3681], abs=1e-4)


def test_the_tests_have_the_system_prompt_of_the_runs(make, measure, capsys):
    folder = make("--method", "vanilla", "--system", "Be kind.")
    assert measure(folder)["system"] == "Be kind." and "--system" not in capsys.readouterr().err
    assert measure(folder, "--system", "")["system"] == ""
    assert "--system: the runs were trained under 'Be kind.'" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["aligned_model_sha256", "template", "system"])
def test_runs_that_do_not_belong_together_are_rejected(key, make, complaint):
    path = make("--method", "vanilla", "real") / "real-seed0" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"data": run["data"] | {key: "other"}}))
    said = complaint(evaluate.main, path.parents[1])
    assert f"real-seed0: was trained with another {key}" in said


def test_a_folder_of_another_run_is_left_as_it_is(make, options, complaint):
    folder = make("--method", "real") / "real-seed0"
    before = weights(folder)
    said = complaint(train.main, *options, "--m", 2)
    assert "real-seed0: was made with m 6, and now it is 2; give --name" in said
    said = complaint(train.main, *options, "--method", "real", "--model", folder)
    assert "is the aligned model itself" in said
    assert weights(folder) == before and not folder.with_name("vanilla-seed0").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_stops_the_run(dtype, options, complaint, monkeypatch, tmp_path):
    broken = train.Method(loss=lambda logits, *_: logits.sum() * float("nan"))
    monkeypatch.setitem(train.METHODS, "vanilla", broken)
    said = complaint(train.main, *options, "--method", "vanilla", "--dtype", dtype)
    assert "vanilla-seed0: the loss is nan at step 1; try a lower --lr" in said
    assert not (tmp_path / "chat").exists()


@pytest.mark.parametrize(
    "more, words",
    [
        ("--method magic", "invalid choice: 'magic'"),
        ("--task gsm8k --prompt-field q", "line 1: field 'q' is missing"),
        ("--m 0", "line 1: m is 0"),
        ("--m few", "--m: invalid int value: 'few'"),
        ("--prefix=", "line 1: the prefix is blank"),
        ("--epochs 0", "'0' is not a whole number of at least 1"),
        ("--beta1 1.5", "--beta1: invalid fraction value: '1.5'"),
        ("--lr fast", "--lr: invalid fraction value: 'fast'"),
        ("--name x", "give one --method"),
        ("--model nowhere", "nowhere"),
        ("--data nowhere", "nowhere: cannot be read (No such file"),
        ("--data BAD", "bad.jsonl, line 2: not JSON"),
        ("--data=", "--data, --model and --template are needed"),
        ("--template chatml", "--template chatml does not fit this tokenizer"),
        ("--max-length 5", "no row fits in 5 tokens"),
        ("--out BAD", "cannot be written"),
        ("--device abacus", "abacus"),
    ],
)
def test_mistakes_in_train(more, words, options, complaint, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "Hi.", "answer": "Hello."}\nHi.')
    more = more.replace("BAD", str(tmp_path / "bad.jsonl")).split(" ")
    assert words in complaint(train.main, *options, *more)
    assert not (tmp_path / "chat").exists()


@pytest.mark.parametrize(
    "main, more, words",
    [
        (evaluate.main, "", "--data is missing"),
        (evaluate.main, "nowhere", "nowhere: holds no runs of train.py"),
        (evaluate.main, "--data BAD", "bad.jsonl, line 2: not JSON"),
        (evaluate.main, "--harmful nowhere", "nowhere: cannot be read"),
        (evaluate.main, "--harmful-answers BAD", "bad.jsonl, line 2: not JSON"),
        (evaluate.main, "--batch-size 0", "--batch-size: '0' is not a whole number"),
        (preview.main, "ROWS out --mode real", "--tokenizer is missing: mode real"),
        (preview.main, "ROWS out --mode virtual --prefix=", "line 1: the prefix is blank"),
        (preview.main, "ROWS ROWS/out --mode virtual", "cannot be written"),
        (preview.main, "BAD out --mode virtual", "bad.jsonl, line 2: not JSON"),
        (chat.main, "ROWS --tokenizer MODEL --row 9", "has rows 1 to 8"),
        (chat.main, "ROWS --tokenizer MODEL --template qwen3", "does not fit this tokenizer"),
        (chat.main, "ROWS --tokenizer nowhere", "nowhere: no such file"),
    ],
)
def test_mistakes_elsewhere(main, more, words, make, complaint, tmp_path, monkeypatch):
    ...
