"""Chapter 1. The method: LookAhead Tuning, Algorithm 1 of arXiv 2503.19041.

Fine-tuning harms the refusals of a chat model because it moves the distribution of the first answer
tokens. So show the beginning of the answer inside the training prompt: those tokens then cost less
loss and carry less gradient, and the opening moves less on prompts without a preview. Only training
data change, neither the loss nor the prompts at inference.

    real      I' = I + C + the first m tokens of O     O' = O
    virtual   I' = I + C + P                           O' = P + O

I is the prompt, O the answer, C the connector, P a fixed prefix. The loss covers the whole of O'.
`python -m lookahead` writes the previewed data as JSONL, for any other trainer.
"""

from lookahead.cli import InputError

CONNECTOR = " The answer begins with: "
PREFIX = "Let's solve this problem. "


def real_preview(prompt, answer, m, tokenizer, connector=CONNECTOR):
    """Algorithm 1, real: return (prompt, answer) with the first m answer tokens in the prompt.

    Tokens are counted in the answer alone, without BOS. A character of several byte tokens that the
    cut would split is dropped, even if nothing is left to show. An answer of at most m tokens is
    shown whole. InputError where the tokenizer's first tokens are not the answer's beginning (it
    adds BOS, say), or m < 1.

    >>> real_preview("What is 6 * 7?", "It is 42.", 2, tokenizer)
    ('What is 6 * 7? The answer begins with: It is', 'It is 42.')
    """
    if m < 1:
        raise InputError(f"m is {m}: a real preview shows at least one token.")

    # The first m tokens of the answer alone, as text.
    shown = tokenizer.decode(tokenizer.encode(answer)[:m])

    # The cut may lie inside a character: what is left of it is not text.
    while shown.endswith("\ufffd") and not answer.startswith(shown):
        shown = shown[:-1]

    # A tokenizer that adds BOS, or changes the text, would show something else.
    if not answer.startswith(shown):
        raise InputError(f"the tokenizer shows {shown!r:.60}, not the beginning of the answer.")
    return prompt + connector + shown, answer


def virtual_preview(prompt, answer, prefix=PREFIX, connector=CONNECTOR):
    """Algorithm 1, virtual: return (prompt, answer) with the prefix shown and prepended.

    InputError where the prefix is blank.

    >>> virtual_preview("What is 6 * 7?", "It is 42.", prefix="Well. ")
    ('What is 6 * 7? The answer begins with: Well. ', 'Well. It is 42.')
    """
    if not prefix.strip():
        raise InputError("the prefix is blank: a virtual preview needs some words to show.")

    # The prefix becomes part of the answer, so the model learns to begin with it.
    return prompt + connector + prefix, prefix + answer


# A preview's name: its function, and the options that it takes. A fork adds its own here, and an
# option that no other preview takes below: its type, its default, its help.
PREVIEWS = {
    "real": (real_preview, ("m", "tokenizer", "connector")),
    "virtual": (virtual_preview, ("prefix", "connector")),
}
OPTIONS = {
    "m": (int, 6, "answer tokens that a real preview shows (6: the paper)"),
    "prefix": (str, PREFIX, f"P of a virtual preview ({PREFIX!r}: the paper's code)"),
    "connector": (str, CONNECTOR, f"C ({CONNECTOR!r}: the paper)"),
}
DEFAULTS = {name: default for name, (_, default, _) in OPTIONS.items()}


def add_preview_options(parser):
    """Add the options that previews take to a command line."""
    # Both command lines have them under the same names, with the same defaults.
    for name, (kind, default, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)


def options_taken(name, options):
    """Return all preview options by name; those that preview `name` does not take are None."""
    taken = PREVIEWS[name][1] if name else ()
    return {option: options[option] if option in taken else None for option in OPTIONS}


def apply_preview(name, prompt, answer, options):
    """Return (prompt, answer) with preview `name` of PREVIEWS, or as they are where it is None.

    >>> apply_preview("virtual", "Hi.", "Hello.", {"prefix": "Well. ", "connector": " Say: "})
    ('Hi. Say: Well. ', 'Well. Hello.')
    """
    # Vanilla.
    if name is None:
        return prompt, answer
    # Each preview gets the options that it takes, and no other.
    preview, taken = PREVIEWS[name]
    return preview(prompt, answer, **{option: options[option] for option in taken})


def main():
    from lookahead.cli import InputError, Parser, say
    from lookahead.files.rows import read_pair, read_rows, write_pair
    from lookahead.files.tokenizers import load_tokenizer
    from lookahead.files.writing import write_rows

    parser = Parser(__doc__)
    add = parser.add_argument
    add("source", help="JSONL, a JSON array or CSV: rows with two fields, or chat messages")
    add("target", help="JSONL file to write, in the shape of the source")
    add("--mode", choices=PREVIEWS, required=True, help="which preview")
    add("--tokenizer", help="tokenizer.model or tokenizer.json, for a preview that counts tokens")
    add_preview_options(parser)
    args = parser.parse_args()

    # A real preview is a number of tokens, so it depends on the tokenizer.
    counts_tokens = "tokenizer" in PREVIEWS[args.mode][1]
    if counts_tokens and not args.tokenizer:
        raise InputError(f"--tokenizer is missing: mode {args.mode} counts tokens.")
    tokenizer = load_tokenizer(args.tokenizer) if counts_tokens else None

    # Each row keeps its shape and its other fields.
    rows = []
    whole = 0
    again = 0
    for place, row in read_rows(args.source):
        pair = read_pair(row, place)
        options = vars(args) | {"tokenizer": tokenizer}
        try:
            prompt, answer = apply_preview(args.mode, pair.prompt, pair.answer, options)
        except ValueError as error:
            raise InputError(f"{place}: {error}.") from None
        rows.append(write_pair(row, prompt, answer))
        whole += prompt.endswith(args.connector + answer)
        again += args.connector in pair.prompt

    # What a user might not have meant is told.
    if again:
        say(f"{args.source}: {again} prompts have the connector already; were they previewed?")
    write_rows(args.target, rows)
    say(f"{len(rows)} rows written to {args.target}; {whole} answers were shown whole.")


if __name__ == "__main__":
    from lookahead.cli import run_script

    run_script(main)
