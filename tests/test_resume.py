"""Interrupted runs go on as if nothing had been: killed at three moments, one amid a save."""

import itertools
import json
import multiprocessing
import os
import signal
import sys

import pytest
import torch

import train
from lookahead.files import checkpoint
from lookahead.files.resume import ResumeFile
from lookahead.methods import METHODS, Method

# Processes are forked from one that has torch already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "train"])
# Where a process is killed: at which call of which function.
MOMENTS = [
    (ResumeFile, "save", 7),  # between two
    (torch.Tensor, "numpy", 30),  # amid one, which is written in part
    (checkpoint, "write_json", 2),  # with the weights saved, without run.json
]


def killed(options, moment):
    """Run train.py with options and kill it at a moment: the target of a process."""
    place, name, number = MOMENTS[moment]
    plain = getattr(place, name)
    calls = itertools.count(1)

    def count(*given, **named):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*given, **named)

    setattr(place, name, count)
    torch.set_num_threads(1)  # sums in the order of the other process
    sys.argv = ["train.py", *options]
    train.main()


def made(folder):
    """Return the weights and the losses of the one run in a folder, and what is left over."""
    folder = folder / "chat" / "real-seed0"
    log = [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), log, sorted(folder.glob("resume*"))


@pytest.mark.parametrize("kind", [[], ["--dtype", "bfloat16"], ["--lora", "4"]])
def test_killed_three_times(kind, chat_model, tmp_path, script, complaint, monkeypatch):
    torch.set_num_threads(1)
    options = [*map(str, chat_model), "--system", "", *kind]
    options += ["--method", "real", "--batch-size", "1", "--lr", "1e-3"]
    script(train.main, *options, "--out", tmp_path / "whole")
    options += ["--out", str(tmp_path), "--save-every", "5", "--resume"]
    for moment in range(len(MOMENTS)):
        process = PROCESSES.Process(target=killed, args=(options, moment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, MOMENTS[moment]
    words = complaint(train.main, *options, "--lr", "0")
    assert "resume.safetensors: was made with lr 0.001, now it is 0.0; give another --out" in words
    script(train.main, *options)
    assert made(tmp_path) == made(tmp_path / "whole") and len(made(tmp_path)[1]) == 24
    monkeypatch.setattr(train, "fine_tune", None)  # what is complete is not made again
    script(train.main, *options)


def test_without_resume_an_interrupted_run_is_made_anew(chat_model, tmp_path, script, capsys):
    options = [*chat_model, "--system", "", "--method", "real", "--out", tmp_path]
    script(train.main, *options)
    expected = made(tmp_path)
    (tmp_path / "chat" / "real-seed0" / "resume.safetensors").write_text("of another recipe")
    capsys.readouterr()
    script(train.main, *options)
    assert "real-seed0: exists and is made again; --resume would keep it" in capsys.readouterr().err
    assert made(tmp_path) == expected


def test_other_rewrites_are_another_run(chat_model, tmp_path, script, complaint, monkeypatch):
    options = [*chat_model, "--system", "", "--method", "sdft", "--out", tmp_path]

    def rewrite(answer):
        data = lambda rows, *_: ([row._replace(answer=answer) for row in rows], {})  # noqa: E731
        monkeypatch.setitem(METHODS, "sdft", Method(data=data))

    # Interrupted after its last step.
    rewrite("It is the door.")
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(train.files, "save_model", None)
        script(train.main, *options, "--save-every", 1)
    rewrite("It is the lamp.")
    assert "another run was interrupted" in complaint(train.main, *options, "--resume")
    rewrite("It is the door.")
    script(train.main, *options, "--resume")
