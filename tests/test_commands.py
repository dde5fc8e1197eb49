"""Chapters 7 and 8: the two scripts from end to end, at a small size, and their complaints."""

import json

import pytest
import torch
from conftest import SHARED, tiny
from lookahead.checkpoint import load
from lookahead.commands import InputError
from lookahead.optimizer import Recipe

import evaluate
import train
from lookahead import runs, toy
from lookahead.batches import pad, shuffled_batches
from lookahead.chat import encode_chat
from lookahead.files import read_rows
from lookahead.kl import kl_divergence
from lookahead.losses import answer_log_probs, constrained_sft, cross_entropy
from lookahead.preview import CONNECTOR, PREFIX, preview_pairs
from lookahead.tasks import TASKS


@pytest.fixture
def toy_run(tiny_world, tmp_path, script):
    def run(*arguments):
        script(train.main, "--out", tmp_path, *arguments)
        return tmp_path / "toy"

    return run


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_train_and_evaluate(toy_run, script, capsys):
    folder = toy_run("--seeds", 2)
    capsys.readouterr()
    script(evaluate.main, folder)
    shown = capsys.readouterr().out
    wide = [line for line in shown.splitlines()[:-1] if len(line) > 80]
    assert not wide
    for word in ("RSR", "JSR", "utility", "vanilla", "real-m6", "virtual", "harmful pairs", "█"):
        assert word in shown
    results = results_of(folder)
    assert results["task"] == "toy" and results["seed_model"] == str(folder / "seed")
    seed, *tuned = results["runs"]
    assert seed["method"] == "seed" and seed["kl"]["harmful"]["tuned_seed"] == [0.0] * 8
    names = [f"{name}-seed{s}" for name in ("vanilla", "real-m6", "virtual") for s in (0, 1)]
    assert [run["name"] for run in tuned] == names
    for run in results["runs"]:
        assert run["rsr"]["n"] == run["jsr"]["n"] == 100 and run["utility"]["n"] == 80
        for pairs in ("harmful", "task"):
            kl = run["kl"][pairs]
            assert len(kl["tuned_seed"]) == len(kl["seed_tuned"]) == len(kl["count"]) == 8
            assert all(value >= -1e-7 for value in kl["tuned_seed"] + kl["seed_tuned"])
    assert tuned[0]["kl"]["task"]["tuned_seed"][0] > 1e-6
    assert [run["m"] for run in tuned] == [None, None, 6, 6, None, None]
    assert tuned[4]["prefix"] == "Let's solve this problem. " and tuned[0]["seconds_per_epoch"] > 0
    assert all(len(run[key]) == 12 for run in tuned for key in ("loss_before", "loss_after"))
    for name in ("report.md", "kl.svg", "kl-task.svg", "loss.svg", "completions/seed-safety.json"):
        assert (folder / name).stat().st_size > 0
    judged = json.loads((folder / "completions" / f"{names[0]}-jailbreak.json").read_text())
    roles = [[turn["role"] for turn in dialogue] for dialogue in judged["results"]]
    assert roles == [["system", "user", "assistant"]] * 100
    scored = (folder / "completions" / f"{names[0]}-utility.json").read_text()
    assert scored.count("\n") == 1 and len(json.loads(scored)["results"]) == 80


def test_the_same_command_gives_the_same_weights(toy_run, tmp_path, script):
    folder = toy_run("--method", "real")
    again = tmp_path / "again"
    script(train.main, "--out", again, "--method", "real")
    for name in ("seed", "real-m6-seed0"):
        assert weights(folder / name) == weights(again / "toy" / name)


def test_the_same_commands_give_the_same_results(toy_run, tmp_path, script):
    folders = toy_run(), tmp_path / "again" / "toy"
    script(train.main, "--out", tmp_path / "again")
    texts = []
    for folder in folders:
        script(evaluate.main, folder, "--limit", 20)
        results = results_of(folder)
        del results["arguments"], results["seed_model"]  # where they are
        for run in results["runs"]:
            del run["seconds_per_epoch"]
        texts.append(json.dumps(results))
    assert texts[0] == texts[1] and len(texts[0]) > 10_000


def test_quiet_tells_results_only(toy_run, script, capsys):
    folder = toy_run("--method", "vanilla", "--quiet")
    script(evaluate.main, folder, "--limit", 4, "--quiet")
    shown = capsys.readouterr()
    assert shown.err == "" and "RSR" in shown.out


def test_the_seed_model_is_built_once(toy_run, monkeypatch):
    folder = toy_run("--method", "vanilla")
    before = (folder / "seed" / "model.safetensors").stat().st_mtime_ns
    toy_run("--method", "vanilla")
    assert (folder / "seed" / "model.safetensors").stat().st_mtime_ns == before
    monkeypatch.setitem(toy.ROWS, "align", 96)  # another world needs another seed model
    toy_run("--method", "vanilla")
    assert (folder / "seed" / "model.safetensors").stat().st_mtime_ns != before


def test_run_json_and_the_loss_log(toy_run):
    folder = toy_run("--method", "real", "--m", 50) / "real-m50-seed0"
    run = json.loads((folder / "run.json").read_text())
    assert run["method"] == "real" and run["m"] == 50 and run["examples"] == 48
    assert run["shown_whole"] == 48 and run["left_out"] == 0 and len(run["data_sha256"]) == 64
    log = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6] and log[-1]["loss"] == run["loss"]


def test_training_is_adamw_on_the_batch_mean(monkeypatch):
    """Against a plain loop: one padded batch, the mean loss, the scheduled rate."""
    data = [([1, *range(5, 5 + n), 2], 2) for n in (3, 9, 5, 12, 4, 7)]
    recipe = Recipe(epochs=2, batch_size=3, lr=1e-3, beta1=0.8)
    expected = tiny()
    optimizer = torch.optim.AdamW(expected.parameters(), betas=(0.8, 0.999), weight_decay=0.0)
    batches = shuffled_batches(data, 3, "7 0") + shuffled_batches(data, 3, "7 1")
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 4)
        tokens, supervised = pad(batch)
        logits = expected(tokens)[:, :-1][supervised[:, 1:]]
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][supervised[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for budget in (8, 1000):
        model = tiny()
        log = train.train(model, data, recipe, 7, "test", budget)
        assert [row["step"] for row in log] == [1, 2, 3, 4]
        assert log[-1]["loss"] == pytest.approx(loss.item(), abs=1e-5)
        for ours, theirs in zip(model.parameters(), expected.parameters()):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_each_method_trains_on_its_own_rows(toy_run, monkeypatch):
    seen = {}

    def record(model, examples, recipe, seed, name, token_budget, loss_function=None, saved=None):
        seen[name.split("-")[0]] = examples, loss_function
        return LOG

    def rewrite(model, tokenizer, template, system, pairs, task, token_budget):
        return [(prompt, "Well. " + answer) for prompt, answer in pairs], 1.0

    monkeypatch.setattr(train, "train", record)
    monkeypatch.setattr(runs, "rewrite_answers", rewrite)
    folder = toy_run("--method", *runs.METHODS)
    model, tokenizer = load(folder / "seed")
    rows = read_rows(folder / "data" / "train.jsonl")
    for method in runs.METHODS:
        pairs = [(row["prompt"], row["answer"]) for row in rows]
        if method in ("real", "virtual"):
            options = {"m": 6, "prefix": PREFIX, "connector": CONNECTOR, "tokenizer": tokenizer}
            pairs = preview_pairs(pairs, method, **options)
        elif method == "sdft":
            pairs = [(prompt, "Well. " + answer) for prompt, answer in pairs]
        expected = [encode_chat(tokenizer, "llama-2", "", *pair) for pair in pairs]
        examples, loss_function = seen[method]
        assert [example[:2] for example in examples] == expected
        assert loss_function == (constrained_sft if method == "constrained" else cross_entropy)
    examples, _ = seen["constrained"]  # each with the seed model's log-probabilities
    for (_, _, found), wanted in zip(examples, answer_log_probs(model, examples, 1024)):
        torch.testing.assert_close(found, wanted)


LOG = [{"step": 1, "loss": 1.0, "tokens": 1, "seconds": 1.0}]


def test_the_first_three_answer_tokens_are_forced(tokenizer, monkeypatch):
    asked = {}

    def record(model, prompts, eos_id, limit, batch_size, name):
        asked[name] = prompts
        return [[] for _ in prompts]

    monkeypatch.setattr(evaluate, "generate", record)
    run, task = {"name": "x", "template": "llama-2"}, TASKS["gsm8k"]
    data = {"utility": [("Q", "It is 42.")], "safety": [("H", None)]}
    data["jailbreak"] = [("H", "Hello. It is")]
    evaluate.measure(tiny(400), tokenizer, run, task, data, 4)
    harmful, _ = encode_chat(tokenizer, "llama-2", task.safety_system, "H")
    assert asked["x: safety"] == [harmful]
    assert asked["x: jailbreak"] == [harmful + tokenizer.encode("Hello. It is")[:3]]
    assert asked["x: utility"] == [encode_chat(tokenizer, "llama-2", task.system, "Q")[0]]


def test_the_direction_of_the_kl():
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    empty = {"utility": [], "safety": [], "jailbreak": []}
    tuned, seed = ({"harmful": [x], "task": [x]} for x in (p, q))
    figures = evaluate.score(empty, tuned, seed, TASKS["toy"], [])["kl"]["harmful"]
    assert figures["tuned_seed"] == [pytest.approx(kl_divergence(p, q).item())]
    assert figures["seed_tuned"] == [pytest.approx(kl_divergence(q, p).item())]
    assert figures["tuned_seed"] != figures["seed_tuned"] and figures["count"] == [1]


def test_a_forks_own_method_is_evaluated(toy_run, script, monkeypatch):
    monkeypatch.setattr(train, "METHODS", ("vanilla", "mine"))
    mine = lambda prompt, answer, m: (f"{prompt} {m}", answer)  # noqa: E731
    monkeypatch.setitem(runs.PREVIEWS, "mine", (mine, ("m",)))
    folder = toy_run("--method", "mine", "vanilla", "--m", 2, 3)
    script(evaluate.main, folder, "--limit", 4)
    found = [(run["method"], run["m"], run["connector"]) for run in results_of(folder)["runs"]]
    assert found[1:] == [("vanilla", None, None), ("mine", 2, None), ("mine", 3, None)]


def test_a_setting_may_not_add_rows(toy_run, monkeypatch):
    rewrite = lambda model, *chat_pairs_task_budget: (chat_pairs_task_budget[3] * 2, 1.0)  # noqa: E731
    monkeypatch.setattr(runs, "rewrite_answers", rewrite)
    with pytest.raises(ValueError, match="may change rows, not add any"):
        toy_run("--method", "vanilla", "sdft")


def test_runs_of_another_seed_model_are_refused(toy_run, complaint):
    folder = toy_run("--method", "vanilla")
    toy_run("--method", "real", "--world", 1)  # builds another seed model in the same place
    assert "started from other weights" in complaint(evaluate.main, folder)


def test_runs_of_two_templates_are_refused(toy_run, complaint):
    folder = toy_run("--method", "vanilla")
    path = folder / "vanilla-seed0" / "run.json"
    run = json.loads(path.read_text())
    toy_run("--method", "real")
    path.write_text(json.dumps(run | {"template": "mistral"}))
    assert "chat template" in complaint(evaluate.main, folder)


def test_data_of_another_world_are_refused(toy_run, complaint):
    folder = toy_run("--method", "vanilla")
    toy.write_world(folder / "data", 1)  # as when `train.py --world 1` is stopped early
    assert "not the world of" in complaint(evaluate.main, folder)
    brought = ["--data", folder / "data" / "test.jsonl"]
    assert "not the world of" in complaint(evaluate.main, folder, *brought)  # harmful ones are own


def test_task_rows_from_elsewhere(toy_run, script, tmp_path):
    folder, rows = toy_run("--method", "vanilla"), tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Where is the door?", "answer": "Here."}')
    script(evaluate.main, folder, "--data", rows, "--limit", 4)
    (seed, _) = results_of(folder)["runs"]
    assert seed["utility"]["n"] == 1 and seed["rsr"]["n"] == seed["jsr"]["n"] == 4


def test_a_seed_model_with_little_to_lose(toy_run, script, monkeypatch, capsys):
    folder = toy_run("--method", "vanilla", "--system", "Be brief.")
    judge = TASKS["toy"]._replace(is_safe=lambda completion: False)
    monkeypatch.setitem(evaluate.TASKS, "toy", judge)
    script(evaluate.main, folder, "--limit", 4)
    shown = " ".join(capsys.readouterr().out.split())
    assert "there is little to lose" in shown
    assert "System prompts: Be brief. (training), none (utility), none (RSR and JSR)." in shown


def test_a_mistyped_model_leaves_the_earlier_run(toy_run, tmp_path, complaint):
    folder = toy_run("--method", "vanilla")
    before = weights(folder / "vanilla-seed0")
    options = ["--out", tmp_path, "--data", folder / "data" / "train.jsonl", "--model", "nowhere"]
    assert "nowhere" in complaint(train.main, *options)
    assert weights(folder / "vanilla-seed0") == before


def test_runs_are_named_after_their_settings(toy_run):
    toy_run("--lr", 2e-4, 5e-4)
    toy_run("--method", "virtual", "--prefix", "Well. ")
    toy_run("--method", "virtual", "--prefix", "Well, ")
    folder = toy_run("--method", "real", "--m", 2, "--connector", " So: ")
    names = {path.parent.name for path in folder.glob("*/run.json")}
    assert len(names) == 1 + 6 + 3
    assert {f"vanilla-lr{lr}-seed0" for lr in (0.0002, 0.0005)} < names


def test_a_real_chat_model(tmp_path, script, capsys, tokenizer):
    """A directory as transformers writes it, from --model to the evaluation of what was tuned."""
    transformers = pytest.importorskip("transformers")
    fields = tiny(400).config._asdict() | {"max_position_embeddings": 512}
    peer = transformers.MistralForCausalLM(
        transformers.MistralConfig(**fields, sliding_window=None)
    )
    peer.bfloat16().save_pretrained(tmp_path / "model", max_shard_size="20KB")
    (tmp_path / "model" / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    template = json.dumps({"chat_template": "{{ '[INST] ' + message['content'] + ' [/INST]' }}"})
    (tmp_path / "model" / "tokenizer_config.json").write_text(template)
    rows, _ = invented(tmp_path)
    options = ["--task", "gsm8k", "--data", rows, "--model", tmp_path / "model", "--out", tmp_path]
    options += ["--max-length", 256, "--epochs", 1, "--lr", 1e-3]
    script(
        train.main, *options, "--method", "vanilla", "real", "--dtype", "bfloat16", "--recompute"
    )
    script(train.main, *options, "--method", "real", "--lora", 4)
    shown = capsys.readouterr().err
    assert "chat template: mistral" in shown and "of the update lost to rounding" in shown
    folder = tmp_path / "gsm8k"
    names = {path.parent.name for path in folder.glob("*/run.json")}
    ending = "-epochs1-lr0.001-maxlength256"
    last = f"vanilla{ending}-dtypebfloat16-seed0"
    others = {f"real-m6{ending}-dtypebfloat16-seed0", f"real-m6{ending}-lora4-seed0"}
    assert names == {last} | others
    run = json.loads((folder / last / "run.json").read_text())
    assert run["template"] == "mistral"
    tuned = transformers.AutoModelForCausalLM.from_pretrained(folder / last)
    assert type(tuned) is type(peer) and tuned.dtype == torch.bfloat16
    script(evaluate.main, folder, "--data", rows, "--limit", 4, "--dtype", "bfloat16")
    methods = [run["method"] for run in results_of(folder)["runs"]]
    assert methods == ["seed", "vanilla", "real", "real"]


def test_the_papers_six_rows(toy_run, script, capsys):
    folder = toy_run("--method", *runs.METHODS)
    assert "of the rewrites replace answers" in capsys.readouterr().err
    script(evaluate.main, folder, "--limit", 8)
    shown, report = capsys.readouterr().out, (folder / "report.md").read_text()
    for method in runs.METHODS:
        assert method in shown and f"| {method}" in report
    assert (
        "s/epoch" in report
        and "1.00×" in report
        and "of the rewrites replaced answers" in report
        and "SDFT: " in shown
    )
    assert "paper:" not in report  # only beside Llama-2
    assert not [line for line in shown.splitlines()[:-1] if len(line) > 80]


def test_ablations_in_one_command(toy_run, script):
    folder = toy_run("--m", 2, 4, "--prefix", "Well. ", "Well, ", "--method", "real", "virtual",
                     "--connector", " So: ", " It begins: ")  # fmt: skip
    assert len(list(folder.glob("*/run.json"))) == 1 + 4 + 4
    script(evaluate.main, folder, "--limit", 8)
    report = (folder / "report.md").read_text()
    for field in ("m", "prefix", "connector"):
        assert f"({field}.svg)" in report and (folder / f"{field}.svg").exists()
    shown = [run["m"] for run in results_of(folder)["runs"]]
    assert sorted(m for m in shown if m) == [2, 2, 4, 4]


def test_scores_of_a_judge_are_added(toy_run, tmp_path, script, complaint, capsys):
    folder = toy_run("--method", "vanilla")
    assert "results.json: cannot be read" in complaint(evaluate.main, folder, "--scores", "x")
    script(evaluate.main, folder, "--limit", 4)
    before = results_of(folder)
    scores = {"vanilla-seed0-safety": [5, 1, 5], "seed-safety": [1, 1, 1, 1]}
    scores["vanilla-seed0-jailbreak"] = [5, 5, 5, 2]
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    capsys.readouterr()
    script(evaluate.main, folder, "--scores", tmp_path / "scores.json")
    seed, vanilla = results_of(folder)["runs"]
    assert vanilla["rsr_judged"]["value"] == 1 / 3 and vanilla["rsr_judged_missing"] == 1
    assert vanilla["jsr_judged"]["value"] == 0.25 and seed["jsr_judged"] is None
    assert vanilla["rsr"] == before["runs"][1]["rsr"]
    report = (folder / "report.md").read_text()
    assert "RSR, judge" in report and "RSR, judge" in capsys.readouterr().out
    assert "vanilla-seed0: 1 completions without a score (RSR, judge)" in report
    (tmp_path / "scores.json").write_text('{"seed-safety": [6]}')
    assert "has 6" in complaint(evaluate.main, folder, "--scores", tmp_path / "scores.json")


def test_system_prompts_are_options(toy_run, script, monkeypatch):
    """PTST: trained without the words that the test has."""
    folder = toy_run("--method", "vanilla", "--system", "Be kind.")
    (name,) = (path.parent.name for path in folder.glob("vanilla*/run.json"))
    assert name.startswith("vanilla-systemBe_kind_.")
    asked = set()
    encode = evaluate.encode_chat
    monkeypatch.setattr(
        evaluate, "encode_chat", lambda *given: asked.add(given[2]) or encode(*given)
    )
    script(evaluate.main, folder, "--limit", 4, "--safety-system", "Be safe.")
    assert asked == {"", "Be safe."}
    assert results_of(folder)["safety_system"] == "Be safe."
    assert "Be safe. (RSR and JSR)" in (folder / "report.md").read_text()
    said = json.loads((folder / "completions" / "seed-safety.json").read_text())
    assert said["results"][0][0] == {"role": "system", "content": "Be safe."}


@pytest.mark.parametrize("task", ["samsum", "chat"])
def test_other_tasks_from_scratch(task, tmp_path, tokenizer, script):
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    names = ("dialogue", "summary") if task == "samsum" else ("q", "a")
    rows = [dict(zip(names, (f"Ann: {i}\r\nBob: Hi.", f"Bob greets {i}."))) for i in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    fields = ["--prompt-field", "q", "--answer-field", "a"] if task == "chat" else []
    data = ["--data", tmp_path / "rows.json", *fields]
    harmful = [[{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]]
    (tmp_path / "harmful.jsonl").write_text((json.dumps(harmful[0]) + "\n") * 3)
    options = ["--scratch", tmp_path / "t.model", "--out", tmp_path, "--method", "real", "vanilla"]
    script(train.main, "--task", task, *data, *options)
    folder = tmp_path / task
    script(evaluate.main, folder, *data, "--limit", 4, "--harmful-answers",
           tmp_path / "harmful.jsonl")  # fmt: skip
    seed, vanilla, real = results_of(folder)["runs"]
    assert 0 <= vanilla["utility"]["value"] <= 1 and vanilla["utility"]["n"] == 4
    assert vanilla["rsr"]["n"] == 3 and vanilla["kl"]["harmful"]["count"][0] == 3
    written = json.loads((folder / "completions" / "seed-utility.json").read_text())["results"][0]
    assert written["ground_truth"] == "Bob greets 0." and written["completion"]


def test_a_run_does_not_overwrite_its_seed_model(toy_run, tmp_path, complaint):
    folder = toy_run("--method", "vanilla")
    options = ["--method", "vanilla", "--model", folder / "vanilla-seed0", "--out", tmp_path]
    options += ["--data", folder / "data" / "train.jsonl"]
    assert "would overwrite its seed model" in complaint(train.main, *options)


def test_several_rates_give_a_chart(toy_run, script):
    folder = toy_run("--method", "vanilla", "--lr", 1e-4, 5e-4)
    script(evaluate.main, folder)
    assert "lr.svg" in (folder / "report.md").read_text() and (folder / "lr.svg").exists()


def invented(folder):
    """Rows in GSM8K's shape, the second too long for the limit with any preview."""
    rows = [
        {
            "question": f"Ann has {i} pens and buys {i}. How many?",
            "answer": f"{i}+{i}\n#### {2 * i}",
        }
        for i in range(1, 25)
    ]
    rows[1]["answer"] = "well " * 300 + rows[1]["answer"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text)
    return folder / "rows.jsonl", folder / "rows.jsonl"


@pytest.mark.parametrize("source", ["invented", "gsm8k"])
def test_gsm8k_from_scratch(source, request, tokenizer, tmp_path, script):
    if source == "invented":
        rows, tests = invented(tmp_path)
        model = tmp_path / "t.model"
        model.write_bytes(tokenizer.serialized_model_proto())
    else:
        folder = request.getfixturevalue("gsm8k")
        rows, tests = folder / "train.jsonl", folder / "test.jsonl"
        model = SHARED / "data" / "llama2-tokenizer.model"
    options = ["--scratch", model, "--out", tmp_path, "--epochs", 1, "--limit", 24]
    options += ["--lr", 1e-3, "--batch-size", 8, "--method", "vanilla", "real", "--max-length", 256]
    script(train.main, "--task", "gsm8k", "--data", rows, *options)
    folder = tmp_path / "gsm8k"
    script(evaluate.main, folder, "--data", tests, "--limit", 4)
    results = json.loads((folder / "results.json").read_text())
    vanilla = results["runs"][1]
    assert vanilla["utility"]["n"] == 4 and vanilla["rsr"] is None and vanilla["jsr"] is None
    assert vanilla["kl"]["harmful"]["tuned_seed"] == []
    assert vanilla["kl"]["task"]["count"] == [4] * 8
    assert "no data" in (folder / "report.md").read_text()
    for run in results["runs"][1:]:  # the same rows for every method
        told = json.loads((folder / run["name"] / "run.json").read_text())
        assert told["left_out"] > 0 and told["left_out"] + told["examples"] == 24


def test_transformers_reads_a_run(toy_run):
    transformers = pytest.importorskip("transformers")
    folder = toy_run("--method", "vanilla") / "vanilla-seed0"
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model, _ = load(folder)
    tokens = torch.randint(0, 300, (2, 20))
    torch.testing.assert_close(model(tokens), peer(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "cannot be read"),
        ("", "holds no rows"),
        ('{"question": "Q", "answer": "A"}\nnonsense\n', "line 2: not JSON"),
        ('{"question": "Q"}', "line 1: field 'answer' is missing"),
        ('{"question": "Q", "answer": 3}', "line 1: field 'answer'"),
        ("[1]", "row 1: expected a JSON object"),
        ("[" * 10**5, "not JSON that can be read"),
        ('{"question": ' + "1" * 5000 + "}", "not JSON that can be read"),
        ('["', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ('{"question": "Q", "answer": "' + "word " * 900 + '"}', "none of 1 rows fits"),
    ],
)
def test_bad_data_is_told(text, words, tmp_path, complaint, tokenizer):
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    data = tmp_path / "in.jsonl"
    if text is not None:
        data.write_bytes(text if isinstance(text, bytes) else text.encode())
    options = ["--scratch", tmp_path / "t.model", "--out", tmp_path / "out", "--data", data]
    assert words in complaint(train.main, "--task", "gsm8k", *options)
    assert not list((tmp_path / "out" / "gsm8k").glob("vanilla*"))


@pytest.mark.parametrize(
    "options, words",
    [
        (["--m", "0"], "--m: '0' is not a whole number of at least 1"),
        (["--prefix", " "], "--prefix: is empty"),
        (["--method", "magic"], "invalid choice: 'magic'"),
        (["--task", "chess"], "invalid choice: 'chess'"),
        (["--task", "gsm8k"], "--data is missing"),
        (["--task", "gsm8k", "--data", "x"], "--model is missing"),
        (["--task", "gsm8k", "--data", "GOOD", "--model", "HERE"], "give --template"),
        (
            ["--task", "gsm8k", "--data", __file__, "--model", "HERE", "--template", "mistral"],
            "not JSON",
        ),
        (["--model", "nowhere"], "--data is missing"),
        (["--beta1", "1.5"], "is not between 0 and 1"),
        (["--scratch", "x"], "--scratch builds"),
        (["--task", "gsm8k", "--data", "GOOD", "--scratch", "nowhere"], "nowhere: no such file"),
        (["--model", "nowhere", "--data", "GOOD"], "nowhere: holds no config.json"),
        (["--device", "abacus"], "abacus"),
        (["--device", "meta"], "is not a device of this machine"),
        (["--lr", "fast"], "--lr"),
    ],
)
def test_bad_options_are_told(options, words, complaint, tmp_path, tiny_world):
    (tmp_path / "GOOD").write_text('{"prompt": "Q", "question": "Q", "answer": "A"}')
    (tmp_path / "config.json").write_text("{}")
    places = {"GOOD": str(tmp_path / "GOOD"), "HERE": str(tmp_path)}
    options = [places.get(option, option) for option in options]
    assert words in complaint(train.main, "--out", tmp_path, *options)


def test_an_output_folder_that_holds_something_else(tiny_world, tmp_path, complaint):
    (tmp_path / "toy" / "seed").mkdir(parents=True)
    (tmp_path / "toy" / "seed" / "thesis.txt").write_text("mine")
    assert "holds thesis.txt" in complaint(train.main, "--out", tmp_path)
    (tmp_path / "toy" / "data" / "mine.csv").write_text("mine")
    assert "holds mine.csv" in complaint(train.main, "--out", tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in complaint(train.main, "--out", tmp_path / "file")


def test_a_loss_that_is_not_finite_stops_the_run(toy_run, tmp_path, complaint, monkeypatch):
    folder = toy_run("--method", "vanilla")
    before = weights(folder / "vanilla-seed0")
    broken = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(train, "cross_entropy", lambda *_: broken * 1)
    sentence = complaint(train.main, "--out", tmp_path, "--method", "vanilla")
    assert "vanilla-seed0: the loss is nan at step 1" in sentence
    assert weights(folder / "vanilla-seed0") == before


def test_a_full_device_is_told(tmp_path, complaint, tiny_world, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "cross_entropy", full)
    said = complaint(train.main, "--out", tmp_path)
    assert "out of memory (train.py: a smaller --token-budget" in said


def test_evaluate_complains(tmp_path, complaint):
    assert "holds no runs" in complaint(evaluate.main, tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text("[]")
    assert "expected a JSON object" in complaint(evaluate.main, tmp_path)


def test_a_row_too_long_in_one_version_is_left_out_of_all():
    short, long = ([0] * 5, 2), ([0] * 50, 2)
    versions = [short, short, long], [short, long, short]
    assert runs._rows_that_fit(versions, 40) == [True, False, False]
    with pytest.raises(InputError, match="none of 3 rows fits in 4 tokens"):
        runs._rows_that_fit(versions, 4)
