"""What all commands share: options, how a mistake is told, and progress."""

import argparse
import os
import re
import sys
import time

quiet = False  # set by --quiet


def say(words):
    """Tell something on standard error, unless --quiet."""
    if not quiet:
        print(words, file=sys.stderr)


class InputError(Exception):
    """A mistake in what the user gave, told in one sentence for standard error.

    It names the file, the line, the field or the option, and the mend where there is one.
    """


def run_script(main):
    """Call `main()`; a user's mistake ends in one sentence and exit status 2, without traceback."""
    sys.stdout.reconfigure(errors="replace")  # where the terminal has no ▲ or █
    try:
        main()
    except (InputError, RuntimeError) as error:
        if isinstance(error, RuntimeError):
            if not re.search("(out of|enough|allocate) memory", str(error)):  # GPU, CPU
                raise
            mend = "train.py: a smaller --token-budget, or --lora; evaluate.py: --batch-size"
            error = f"the device is out of memory ({mend})."
        start = "\r\033[K" if sys.stderr.isatty() else ""  # over an unfinished line of progress
        print(f"{start}error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"\nstopped{stop}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read the results has seen enough
        os._exit(0)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence too."""

    def __init__(self, description):
        as_written = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=as_written)
        self.add_argument("--quiet", action="store_true", help="only results and errors")

    def add_machine_options(self):
        """Add --device and --dtype; return the function that adds more options to their group."""
        import torch  # not above: whoever takes the preview alone needs no torch

        add = self.add_argument_group("machine").add_argument
        there = {"cuda": torch.cuda, "mps": torch.backends.mps}
        best = next((name for name, kind in there.items() if kind.is_available()), "cpu")
        add("--device", type=_device, default=best, help="here: %(default)s")
        add("--dtype", choices=["float32", "bfloat16"], help="of the weights (bfloat16 on a GPU, "
            "where training keeps an exact float32 master beside; else float32)")  # fmt: skip
        return add

    def parse_args(self):
        global quiet
        args = super().parse_args()
        quiet = args.quiet
        if "dtype" in args and args.dtype is None:
            args.dtype = "bfloat16" if args.device.startswith("cuda") else "float32"
        return args

    def error(self, message):
        raise InputError(f"{message}; see --help.")


def _device(name):
    """Read an option's device, and try it: a number must come back from there."""
    import torch

    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError):
        raise argparse.ArgumentTypeError(f"{name!r} is not a device of this machine") from None
    return name


def positive(text):
    """Read an option's whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def words(text):
    """Read an option's text that may not be blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give some words")
    return text


class Progress:
    """How far something is: one line on a terminal, elsewhere a line now and then."""

    def __init__(self, name, total, begun=0):
        self.name, self.total, self.begun = name, total, begun  # `begun`: done before this process
        self.terminal = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def show(self, done, note=""):
        if quiet:
            return
        now = time.monotonic()
        short = self.shown == self.started and now - self.started < 1  # not worth a line
        if now - self.shown < (0.2 if self.terminal else 10) and (done < self.total or short):
            return
        self.shown = now
        left = (now - self.started) * (self.total - done) / max(done - self.begun, 1)
        line = f"{self.name:24} {done:5}/{self.total}  {note}  {left:3.0f} s left"
        if self.terminal:
            line = "\r\033[K" + line + ("\n" if done == self.total else "")
        print(line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)
