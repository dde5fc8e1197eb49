"""The ground floor: what every command line shares.

A user's mistake is an `InputError` and ends in one sentence on standard error and exit status 2,
without a traceback. Whatever takes over five seconds shows its progress. This file imports torch
only where a command asks for the machine, so the preview alone needs no torch.
"""

import argparse
import re
import sys
import time


class InputError(Exception):
    """A mistake in what the user gave: file, line, field or option, and what to do about it."""


def say(words):
    """Tell something on standard error."""
    print(words, file=sys.stderr)


def run_script(main):
    """Call `main()`; end with status 2 after a user's mistake, with 130 after Ctrl-C."""
    sys.stdout.reconfigure(errors="replace")  # where the terminal has no ▲
    try:
        return main()
    except InputError as error:
        sentence, status = f"error: {error}", 2
    except RuntimeError as error:
        if not re.search("(out of|enough|allocate) memory", str(error)):  # GPU, CPU
            raise
        less = "a smaller --token-budget, --batch-size (evaluate.py), or --lora"
        sentence, status = f"error: the device is out of memory; give {less}.", 2
    except KeyboardInterrupt:
        sentence, status = "stopped", 130
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # an unfinished line of progress
    print(f"{clear}{sentence}", file=sys.stderr)
    sys.exit(status)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence too."""

    def __init__(self, description):
        as_written = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=as_written)

    def error(self, message):
        raise InputError(f"{message}; see --help.")


def add_machine_options(parser):
    """Add --device, --dtype and --token-budget, whose defaults are what suits this machine."""
    import torch

    on_cuda = torch.cuda.is_available()
    device = "cuda" if on_cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    add = parser.add_argument
    add("--device", type=own_device, default=device, help="cuda, mps or cpu (here: %(default)s)")
    add("--dtype", choices=["float32", "bfloat16"], default="bfloat16" if on_cuda else "float32",
        help="of the weights (bfloat16 on CUDA, else float32)")  # fmt: skip
    add("--token-budget", type=positive, metavar="N", default=4096 if on_cuda else 1024,
        help="padded tokens of a micro-batch (4096 on CUDA, else 1024)")  # fmt: skip


def own_device(text):
    """Read an option's device, which this machine must have."""
    import torch

    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError):  # without CUDA, without mps, an unknown name
        raise argparse.ArgumentTypeError(f"{text!r} is no device of this machine") from None
    return text


def add_training_options(parser):
    """Add the options of a machine on which runs are made."""
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--out", default="out", metavar="DIR", help="folder of all output (out)")
    add("--save-every", type=positive, metavar="N", help="save every N steps, for --resume")
    add("--resume", action="store_true", help="go on where an interrupted command saved")
    add("--recompute", action="store_true", help="compute blocks twice, for less memory (always "
        "on CUDA)")  # fmt: skip
    add_machine_options(group)


def positive(text):
    """Read an option's whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


class Progress:
    """How far something is: one line on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, name, total, begun=0):
        self.name = name
        self.total = total
        self.begun = begun  # what was done before this process, after --resume
        self.started = self.shown = time.monotonic()

    def show(self, done, note=""):
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.shown < (0.2 if terminal else 10):
            return
        self.shown = now
        left = (now - self.started) * (self.total - done) / max(done - self.begun, 1)
        line = f"{self.name:24} {done:5}/{self.total}  {note}  {left:3.0f} s left"
        print(f"\r\033[K{line}" if terminal else line, end="\r" if terminal else "\n",
              file=sys.stderr, flush=True)  # fmt: skip
