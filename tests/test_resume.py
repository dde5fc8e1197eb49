"""Interrupted runs go on as if nothing had been: stopped, killed, or out of disk."""

import errno
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

import train
from lookahead.runs import ResumeFile
from lookahead.tensors import read_header

SCRIPT = pathlib.Path(__file__).parents[1] / "train.py"


@pytest.fixture
def small(tmp_path, tokenizer):
    """Options of a run of 60 steps from a random model, and the folder of its one run."""
    (tmp_path / "t.model").write_bytes(tokenizer.serialized_model_proto())
    rows = [{"question": f"What is {i} * 7?", "answer": f"It is {7 * i}."} for i in range(24)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    options = ["--task", "gsm8k", "--scratch", tmp_path / "t.model", "--data"]
    options += [tmp_path / "rows.json", "--method", "real", "--epochs", 10, "--batch-size", 4]
    options = [str(option) for option in options]

    def folder(out):
        (found,) = (tmp_path / out / "gsm8k").glob("real*")
        return found

    return [*options, "--lr", "1e-3"], folder


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "lora"])
def test_a_stopped_run_goes_on_exactly(kind, small, tmp_path, script, monkeypatch, capsys):
    options, folder = small
    options = [*options, *({"lora": ["--lora", "4"]}.get(kind) or ["--dtype", kind])]
    script(train.main, *options, "--out", tmp_path / "whole")
    options += ["--out", tmp_path / "cut", "--save-every", "7"]
    save, count = ResumeFile.save, []

    def save_and_stop(*given):
        save(*given)
        count.append(1)
        if len(count) in (2, 3, 6):
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumeFile, "save", save_and_stop)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt, match="resume goes on from .*resume.safetensors"):
            script(train.main, *options, "--resume")
    script(train.main, *options, "--resume")
    assert weights(folder("cut")) == weights(folder("whole"))
    logs = [(folder(out) / "loss.jsonl").read_text().splitlines() for out in ("whole", "cut")]
    losses = [[json.loads(row)["loss"] for row in log] for log in logs]
    assert len(losses[0]) == 60 and losses[0] == losses[1] and len(count) == 8
    assert not (folder("cut") / "resume.safetensors").exists()
    script(train.main, *options, "--resume")
    assert "complete already" in capsys.readouterr().err and len(count) == 8


def test_a_run_stopped_behind_its_last_step(small, tmp_path, script, monkeypatch):
    options, folder = small
    script(train.main, *options, "--out", tmp_path / "whole")
    options += ["--out", tmp_path / "cut", "--save-every", "6"]
    save = train.checkpoint.save

    def save_seed_only(place, *rest):
        if place.name != "seed":
            raise ZeroDivisionError
        save(place, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train.checkpoint, "save", save_seed_only)
        with pytest.raises(ZeroDivisionError):
            script(train.main, *options)
    log = read_header(folder("cut") / "resume.safetensors")[2]["log"]
    assert len(json.loads(log)) == 60  # nothing is left to train
    script(train.main, *options, "--resume")
    assert weights(folder("cut")) == weights(folder("whole"))


def test_killed_at_twenty_moments(small, tmp_path, script):
    options, folder = small
    options += ["--epochs", "80", "--quiet"]
    script(train.main, *options, "--out", tmp_path / "whole")
    options += ["--out", str(tmp_path / "cut"), "--save-every", "1", "--resume"]
    rng, saves = random.Random(0), []

    def last_save():
        try:
            (path,) = tmp_path.glob("cut/gsm8k/real*/resume.safetensors")
            return path.stat().st_mtime_ns
        except (ValueError, FileNotFoundError):  # not there, or being replaced just now
            return None

    for _ in range(20):
        begun = last_save()
        run = subprocess.Popen([sys.executable, SCRIPT, *options])
        while run.poll() is None and last_save() == begun:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        saves.append(last_save())
    assert len(set(saves)) > 10
    subprocess.run([sys.executable, SCRIPT, *options], check=True)
    assert weights(folder("cut")) == weights(folder("whole"))


def test_control_c_says_where_it_stopped(small, tmp_path):
    options, _ = small
    options += ["--epochs", "4000", "--out", str(tmp_path), "--save-every", "1"]
    run = subprocess.Popen(
        [sys.executable, SCRIPT, *options],
        stderr=subprocess.PIPE,
        text=True,
        # a shell that started these tests in the background lets them ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(tmp_path.glob("gsm8k/real*/resume.safetensors")):
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=20)[1]
    finally:
        run.kill()
    assert run.returncode == 130
    assert "stopped: real-m6" in told and "--resume goes on from" in told
    assert "Traceback" not in told


def test_a_full_disk_leaves_the_last_one_whole(small, tmp_path, script):
    options, folder = small
    script(train.main, *options, "--out", tmp_path / "whole")
    options += ["--out", str(tmp_path / "cut"), "--save-every", "5"]
    size = (folder("whole") / "model.safetensors").stat().st_size

    def run(limit, *more):
        def set_limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        command = [sys.executable, SCRIPT, *options, *more]
        return subprocess.run(command, preexec_fn=set_limit, capture_output=True, text=True)

    short = run(2 * size)  # enough for the weights, not for the optimizer's state
    assert short.returncode == 2 and "Traceback" not in short.stderr
    assert "resume.safetensors: cannot be written (File too large)" in short.stderr
    assert not list((tmp_path / "cut").rglob("*.part"))
    save = [*options, "--out", tmp_path / "cut"]
    with pytest.MonkeyPatch.context() as patch:
        kept = ResumeFile.save
        patch.setattr(ResumeFile, "save", lambda *given: [kept(*given), stop()])
        with pytest.raises(KeyboardInterrupt):
            script(train.main, *save)
    before = (folder("cut") / "resume.safetensors").read_bytes()
    assert run(2 * size, "--resume").returncode == 2
    assert (folder("cut") / "resume.safetensors").read_bytes() == before
    assert run(100 * size, "--resume").returncode == 0
    assert weights(folder("cut")) == weights(folder("whole"))


def stop():
    raise KeyboardInterrupt


def test_a_folder_that_takes_no_file(small, tmp_path, complaint, monkeypatch):
    """As root no folder is read-only, so the system's answer is put in its place."""
    options, plain = small[0], open

    def refuse(path, *given, **named):
        if str(path).endswith(".part"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return plain(path, *given, **named)

    monkeypatch.setattr("builtins.open", refuse)
    sentence = complaint(train.main, *options, "--out", tmp_path)
    assert "cannot be written (Read-only file system)" in sentence


def test_what_was_saved_belongs_to_its_run(small, tmp_path, script, complaint, monkeypatch):
    options, folder = small
    options += ["--out", tmp_path, "--save-every", "5"]
    kept = ResumeFile.save
    with monkeypatch.context() as patch:
        patch.setattr(ResumeFile, "save", lambda *given: [kept(*given), stop()])
        with pytest.raises(KeyboardInterrupt):
            script(train.main, *options)
    assert "an interrupted run; give --resume or remove it" in complaint(train.main, *options)
    (tmp_path / "rows.json").write_text('[{"question": "Q", "answer": "A"}]')
    sentence = complaint(train.main, *options, "--resume")
    assert "resume.safetensors: was made with" in sentence and "remove it" in sentence
    path = folder(".") / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "where its header says" in complaint(train.main, *options, "--resume")


def test_a_loss_that_is_not_finite_keeps_the_last_one(
    small, tmp_path, script, complaint, monkeypatch
):
    options, folder = small
    options += ["--out", tmp_path, "--save-every", "5"]
    plain, calls = train.cross_entropy, []

    def broken(model, parts):
        calls.append(1)
        return plain(model, parts) * (float("inf") if len(calls) == 8 else 1)

    monkeypatch.setattr(train, "cross_entropy", broken)
    sentence = complaint(train.main, *options)
    assert "the loss is inf at step 8, lr 0.00088, in the kept rows " in sentence
    monkeypatch.setattr(train, "cross_entropy", plain)
    script(train.main, *options, "--resume")
    script(train.main, *options[:-3], tmp_path / "whole")
    assert weights(folder(".")) == weights(folder("whole"))


def test_weights_that_are_not_finite_are_not_saved(small, tmp_path, complaint, monkeypatch):
    options, folder = small

    class Broken(torch.optim.AdamW):
        def step(self):
            super().step()
            self.param_groups[0]["params"][0].data[0] = float("nan")

    monkeypatch.setattr(train, "adamw", lambda model, _: Broken(model.parameters()))
    options += ["--out", tmp_path, "--save-every", "1"]
    assert "weights not finite at step 1" in complaint(train.main, *options)
    assert not list((tmp_path / "gsm8k").glob("real*/*"))
