"""Chapter 10. The methods that are compared, a line each: a preview, a loss, a source of data.

A fork adds its method to METHODS, and an option that no other method takes to OPTIONS: that puts it
on the command lines and into `run.json`. Preview, loss and data are independent of each other. All
methods of a comparison share rows, order, recipe and aligned model. How rows become what a method
trains on is in `examples.py`.
"""

import functools
import typing
from collections.abc import Callable

from lookahead.baselines import BETAS, constrained_sft, rewrite_answers
from lookahead.cli import numbers, positive, utf8
from lookahead.losses import answer_log_probs, cross_entropy
from lookahead.preview import CONNECTOR, PREFIX, real_preview, virtual_preview


# All that a method may change. What it leaves out is as in vanilla fine-tuning.
class Method(typing.NamedTuple):
    preview: Callable | None = None  # (prompt, answer, **options) -> (prompt, answer)
    preview_options: tuple = ()  # of OPTIONS, and "tokenizer"
    loss: Callable = cross_entropy  # (logits, targets, positions, aligned_log_probs) -> sum
    loss_options: tuple = ()  # of OPTIONS
    ask_aligned: Callable | None = None  # (model, examples, token_budget) -> a tensor an example,
    # which reaches the loss as aligned_log_probs
    data: Callable | None = None  # (rows, model, chat, task, **options) -> other rows, a note
    data_options: tuple = ()  # of OPTIONS


# A setting of a preview, a loss or a source of data, as the command line offers it.
class Option(typing.NamedTuple):
    kind: Callable  # reads it from the command line
    default: object
    help: str


# By the name of the parameter.
OPTIONS = {
    "m": Option(positive, 6, "answer tokens that a real preview shows"),
    "prefix": Option(utf8, PREFIX, "P of a virtual preview, as in the paper's code"),
    "connector": Option(utf8, CONNECTOR, "C of a preview, as in the paper"),
    "betas": Option(numbers, BETAS, "of constrained SFT, by answer token, the last for the rest"),
}


def token_log_probs(model, examples, token_budget):
    """Return the aligned model's log p of each answer token, (A,) an example."""
    return answer_log_probs(model, examples, token_budget, name="log p of the aligned model")[0]


# In the order of the tables.
METHODS = {
    "vanilla": Method(),
    "sdft": Method(data=rewrite_answers),
    "constrained": Method(
        loss=constrained_sft, loss_options=("betas",), ask_aligned=token_log_probs
    ),
    "real": Method(preview=real_preview, preview_options=("m", "tokenizer", "connector")),
    "virtual": Method(preview=virtual_preview, preview_options=("prefix", "connector")),
}


def add_method_options(parser):
    """Add the options that methods take to a command line."""
    # All options are there whatever the method: one command may train several of them.
    for name, (kind, default, text) in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=default, help=text)


def options_of(method, values):
    """Return all OPTIONS by name, as `run.json` has them; those that the method ignores are None.

    >>> options = options_of(METHODS["real"], {"m": 2, "connector": " C: "})
    >>> options["m"], options["prefix"]
    (2, None)
    """
    # Two runs that differ only in an option that both ignore are the same.
    used = method.preview_options + method.loss_options + method.data_options
    return {name: values[name] if name in used else None for name in OPTIONS}


def loss_of(method, values):
    """Return the method's loss with its options set."""
    # The training loop calls every loss with the same four arguments, so its own are set before.
    options = {name: values[name] for name in method.loss_options}
    return functools.partial(method.loss, **options) if options else method.loss


def apply_preview(method, prompt, answer, values):
    """Return (prompt, answer) under the method's preview, or as they are where it has none.

    `values` has its options by name, and "tokenizer" where it counts tokens.

    >>> options = {"prefix": "Well. ", "connector": " C: "}
    >>> apply_preview(METHODS["virtual"], "Hi.", "Hello.", options)
    ('Hi. C: Well. ', 'Well. Hello.')
    """
    # A baseline trains on the plain text.
    if method.preview is None:
        return prompt, answer

    # A preview takes the options that its line in the table names, and no others.
    options = {name: values[name] for name in method.preview_options}
    return method.preview(prompt, answer, **options)
