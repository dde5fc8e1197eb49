"""What every command line shares: one-sentence errors, options of the machine, progress.

A user's mistake is an `InputError` and ends in one sentence on standard error and exit status 2,
without a traceback. Whatever takes long shows its progress. This file imports torch
only where a command asks for the machine, so the preview alone needs no torch.
"""

import argparse
import contextlib
import os
import re
import sys
import time


class InputError(ValueError):
    """A mistake in what the user gave: file, line, field or option, and what to do about it."""


@contextlib.contextmanager
def at(place):
    """Put a place, file and line, before what is said of a mistake inside this block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def say(words):
    """Tell something on standard error."""
    print(words, file=sys.stderr)


def run_script(main):
    """Call `main()`; end with status 2 after a user's mistake, with 130 after Ctrl-C."""
    # Where output is closed (`>&-`), what is said goes nowhere.
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    sys.stdout.reconfigure(errors="replace")  # where the terminal has no ▲
    try:
        main()
        sys.stdout.flush()
        return
    except InputError as error:
        sentence, status = f"error: {error}", 2
    except BrokenPipeError:
        # Its reader has gone, as `| head` does: what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sentence, status = f"error: {error.filename or 'output'}: {error.strerror or error}.", 2
    except UnicodeError as error:
        sentence, status = f"error: standard input is not UTF-8: {error}.", 2
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


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that shows the description as written, and the default of each option that has one."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default else action.help


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence too."""

    def __init__(self, description):
        # No abbreviations: --seed would be taken for --seeds.
        super().__init__(description=description, formatter_class=Help, allow_abbrev=False)

    def error(self, message):
        raise InputError(f"{message}; see --help.")


def add_machine_options(parser, dtype="bfloat16 on CUDA, else float32"):
    """Add --device, --dtype and --token-budget; `settle` gives the last two their defaults."""
    import torch

    # Blocks of memory that can grow leave less of it unused; PyTorch reads this at the first use.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

    has_mps = torch.backends.mps.is_available()
    device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    add = parser.add_argument
    add("--device", type=own_device, default=device, help="cuda, mps or cpu")
    add("--dtype", choices=["float32", "bfloat16"], help=f"of the weights ({dtype})")
    add("--token-budget", type=positive, metavar="N", help="padded tokens of a micro-batch (4096 "
        "on CUDA, else 1024)")  # fmt: skip


def settle(args):
    """Set --dtype and --token-budget, where they are not given, to what suits the device."""
    import torch

    # Older cards than Ampere have no bf16 of their own, and slow attention for it.
    on_cuda = args.device.startswith("cuda")
    has_bfloat16 = on_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    args.dtype = args.dtype or ("bfloat16" if has_bfloat16 else "float32")
    args.token_budget = args.token_budget or (4096 if on_cuda else 1024)
    return args


def own_device(text):
    """Read an option's device, which this machine must have."""
    import torch

    with contextlib.suppress(AssertionError, RuntimeError):  # without CUDA, without mps
        if text.split(":")[0] in ("cuda", "mps", "cpu"):
            torch.empty(0, device=text)
            return text
    raise argparse.ArgumentTypeError(f"{text!r} is not available on this machine")


def add_training_options(parser):
    """Add the options of a machine on which runs are made."""
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--out", default="out", metavar="DIR", help="folder of all output")
    add("--save-every", type=positive, metavar="N", help="save every N steps, for --resume")
    add("--resume", action="store_true", help="keep complete runs, go on with interrupted ones")
    add("--recompute", action=argparse.BooleanOptionalAction, help="save memory (yes on CUDA)")
    add_machine_options(group)


def positive(text):
    """Read an option's whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def utf8(text):
    """Read an option's text: bytes that are not UTF-8 end in a ValueError."""
    text.encode()
    return text


def world_number(text):
    """Read an option's number of a toy world."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at most nine digits")
    return int(text)


def fraction(text):
    """Read an option's number from 0 up to, but not including, 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1, without the 1")


def numbers(text):
    """Read an option's positive numbers, separated by commas."""
    with contextlib.suppress(ValueError):
        values = [float(part) for part in text.split(",")]
        if all(0 < value < float("inf") for value in values):
            return values
    raise argparse.ArgumentTypeError(f"{text!r} is not positive numbers, separated by commas")


def run_name(text):
    """Read an option's name of a run, which is a folder's too."""
    if not re.fullmatch(r"\w[\w.-]*", text, re.ASCII) or text == "aligned":
        rule = "letters, digits, '-', '_' and '.', and not 'aligned'"
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: {rule}")
    return text


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
