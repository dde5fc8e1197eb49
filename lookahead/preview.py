"""Chapter 1. The method: LookAhead Tuning, Algorithm 1 of arXiv 2503.19041.

Fine-tuning harms the refusals of a chat model because it moves the distribution of the first answer
tokens. So show the beginning of the answer inside the training prompt: those tokens then cost
almost no loss, carry almost no gradient, and the opening hardly moves on prompts without a preview.
Only training data change, neither the loss nor the prompts at inference.

    real      I' = I + C + the first m tokens of O     O' = O
    virtual   I' = I + C + P                           O' = P + O

I is the prompt, O the answer, C the connector, P a fixed prefix. The loss covers the whole of O'.
`python -m lookahead.preview` writes the previewed data as JSONL, for any other trainer.
"""

from lookahead.commands import InputError, Parser, positive, run_script, say, words
from lookahead.files import load_tokenizer, read_rows, write_rows

CONNECTOR = " The answer begins with: "
PREFIX = "Let's solve this problem. "


def real_preview(prompt, answer, m, tokenizer, connector=CONNECTOR):
    """Return (prompt, answer) with the first m answer tokens shown in the prompt.

    Tokens are counted in the answer alone, without BOS. A character of several byte tokens that the
    cut would split is dropped. An answer of at most m tokens is shown whole.

    >>> real_preview("What is 6 * 7?", "It is 42.", 2, tokenizer)
    ('What is 6 * 7? The answer begins with: It is', 'It is 42.')
    """
    if m < 1:
        raise ValueError(f"m is {m}: a real preview shows at least one token")
    shown = tokenizer.decode(tokenizer.encode(answer)[:m])
    while shown.endswith("\ufffd") and not answer.startswith(shown):  # not the answer's own U+FFFD
        shown = shown[:-1]
    return prompt + connector + shown, answer


def virtual_preview(prompt, answer, prefix=PREFIX, connector=CONNECTOR):
    """Return (prompt, answer) with the prefix shown in the prompt and put before the answer.

    >>> virtual_preview("What is 6 * 7?", "It is 42.", prefix="Well. ")
    ('What is 6 * 7? The answer begins with: Well. ', 'Well. It is 42.')
    """
    if not prefix.strip():
        raise ValueError("the prefix is empty: a virtual preview needs some words to show")
    return prompt + connector + prefix, prefix + answer


# A preview's name: its function, and which options it takes. A fork adds its own here.
PREVIEWS = {
    "real": (real_preview, ("m", "connector", "tokenizer")),
    "virtual": (virtual_preview, ("prefix", "connector")),
}


def preview_pairs(pairs, method, **options):
    """Return (prompt, answer) pairs with one of PREVIEWS; options it does not take are ignored.

    >>> preview_pairs([("Hi.", "Hello.")], "virtual", prefix="Well. ", connector=" Say: ", m=None)
    [('Hi. Say: Well. ', 'Well. Hello.')]
    """
    preview, taken = PREVIEWS[method]
    return [preview(*pair, **{name: options[name] for name in taken}) for pair in pairs]


def count_shown_whole(pairs, m, tokenizer):
    """Return how many answers a real preview of m tokens gives away whole.

    >>> count_shown_whole([("Hi.", "It is 42.")], 100, tokenizer)
    1
    """
    return sum(len(tokenizer.encode(answer)) <= m for _, answer in pairs)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("source", help="JSONL file, or a JSON array of objects")
    add("target", help="JSONL file to write; other fields are kept as they are")
    add("--mode", choices=PREVIEWS, required=True, help="which preview")
    add("--m", type=positive, default=6, help="answer tokens that a real one shows (6: the paper)")
    add("--prefix", type=words, default=PREFIX, help="P (the paper's code: %(default)r)")
    add("--connector", default=CONNECTOR, help="C (the paper: %(default)r)")
    add("--tokenizer", help="SentencePiece model, for the modes that count tokens")
    add("--prompt-field", default="question", help="default: %(default)s")
    add("--answer-field", default="answer", help="default: %(default)s")
    args = parser.parse_args()
    taken, fields = PREVIEWS[args.mode][1], [args.prompt_field, args.answer_field]
    if {"m", "tokenizer"} & set(taken) and not args.tokenizer:
        raise InputError(f"--tokenizer is missing: {args.mode} mode counts tokens and needs it.")
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
    rows = read_rows(args.source, fields)
    pairs = [[row[field] for field in fields] for row in rows]
    if again := sum(args.connector in prompt for prompt, _ in pairs):
        say(f"{args.source}: {again} prompts have the connector already; were they previewed?")
    previewed = preview_pairs(pairs, args.mode, **(vars(args) | {"tokenizer": tokenizer}))
    write_rows(args.target, [row | dict(zip(fields, pair)) for row, pair in zip(rows, previewed)])
    whole = count_shown_whole(pairs, args.m, tokenizer) if "m" in taken else 0
    say(f"{len(rows)} rows written to {args.target}; {whole} answers were shown whole.")


if __name__ == "__main__":
    run_script(main)
