"""Examples: from the rows of a file to what a method trains on.

Rows are left out by the length of their plain example, so every method, with every option, trains
on the same ones. Then a method's data, its preview, the ids, and what its loss takes of the aligned
model.
"""

import hashlib
import json
import typing

from lookahead.batches import Example
from lookahead.cli import InputError, at, say
from lookahead.methods import METHODS, apply_preview
from lookahead.tasks import read_pairs


def normalise(pair, tokenizer):
    """Return a pair whose texts are as the tokenizer sees them (NFC, for some)."""
    prompt = tokenizer.normalize(pair.prompt)
    return pair._replace(prompt=prompt, answer=tokenizer.normalize(pair.answer))


def to_example(pair, chat):
    """Return the Example of a pair as it is."""
    with at(pair.place):
        return Example(*chat.encode(pair.prompt, pair.answer, pair.system))


class Rows(typing.NamedTuple):
    pairs: list  # those that are trained on
    left_out: int  # how many were too long


def choose_rows(path, task, chat, longest, limit=None):
    """Return the Rows of a file: pairs whose plain examples have at most `longest` tokens.

    No answer is ever cut. InputError where no row is short enough.
    """
    pairs = [normalise(pair, chat.tokenizer) for pair in read_pairs(path, task)[:limit]]
    fitting = [pair for pair in pairs if len(to_example(pair, chat).ids) <= longest]
    left_out = len(pairs) - len(fitting)
    say(f"{len(fitting)} rows; {left_out} of over {longest} tokens are left out")
    if not fitting:
        raise InputError(f"{path}: no row fits in {longest} tokens (--max-length, or context).")
    return Rows(fitting, left_out)


def texts_sha256(pairs):
    """Return the SHA-256 of the texts of pairs: prompts, answers, system prompts."""
    return hashlib.sha256(json.dumps([pair[:3] for pair in pairs]).encode()).hexdigest()


def make_examples(name, rows, chat, task, model, context, args):
    """Return what a method trains on, a list of Examples, and a note for its `run.json`.

    `rows` are pairs of prompt and answer, `model` is the aligned model, or None where the method
    asks it nothing, and `args` has the options of methods and `token_budget`. A preview may make an
    example longer than --max-length; InputError where it exceeds the model's `context`.
    """
    # Data: other rows than those of the file.
    method = METHODS[name]
    values = vars(args) | {"tokenizer": chat.tokenizer}
    note = {}
    if method.data:
        options = {name: values[name] for name in method.data_options}
        rows, note = method.data(rows, model, chat, task, **options)
        note = note | {"method_rows_sha256": texts_sha256(rows)}  # a run resumes on the same ones

    # The preview changes the text; what follows does not know of it.
    examples = []
    whole = 0
    for pair in rows:
        with at(pair.place):
            prompt, answer = apply_preview(method, pair.prompt, pair.answer, values)
        example = to_example(pair._replace(prompt=prompt, answer=answer), chat)
        if len(example.ids) > context:
            raise InputError(f"{pair.place}: has {len(example.ids)} tokens under {name}, more than "
                             f"the context of {context}; give a lower --max-length.")  # fmt: skip
        examples.append(example)
        whole += prompt != pair.prompt and prompt.endswith(pair.answer)
    if whole:
        say(f"{name}: {whole} answers are shown whole in the prompt")

    # What the loss compares with.
    if method.ask_aligned:
        log_probs = method.ask_aligned(model, examples, args.token_budget)
        pairs = zip(examples, log_probs)
        examples = [example._replace(aligned_log_probs=part) for example, part in pairs]
    return examples, note
