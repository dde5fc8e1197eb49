"""Chapter 1. The method: LookAhead Tuning, Algorithm 1 of arXiv 2503.19041.

Fine-tuning harms the refusals of a chat model because it moves the distribution of the first answer
tokens. So show the model the beginning of the answer inside the training prompt: those tokens then
cost almost no loss, carry almost no gradient, and the model's opening hardly moves on prompts that
carry no preview. Only training data change. There is no new loss, and prompts at inference stay as
they were: nothing that evaluates imports this file.

    real      I' = I + C + the first m tokens of O     O' = O
    virtual   I' = I + C + P                           O' = P + O

I is the prompt, O the answer, C the connector, P a fixed prefix. The loss covers the whole of O'.
For a trainer other than ours, `python -m lookahead.preview` writes the previewed data as JSONL.
"""

from lookahead.commands import InputError, Parser, positive, run_script, say, words
from lookahead.files import load_tokenizer, read_rows, write_rows

CONNECTOR = " The answer begins with: "
PREFIX = "Let's solve this problem. "
PREVIEWS = ("real", "virtual")


def real_preview(prompt, answer, m, tokenizer, connector=CONNECTOR):
    """Return (prompt, answer) with the first m answer tokens shown in the prompt.

    Tokens are counted in the answer alone, without BOS. When the cut falls inside a character that
    takes several byte tokens, the incomplete character is dropped. An answer of at most m tokens is
    shown whole (see `count_shown_whole`). An m below 1 is a ValueError.

    >>> real_preview("What is 6 * 7?", "It is 42.", 2, tokenizer)
    ('What is 6 * 7? The answer begins with: It is', 'It is 42.')
    """
    if m < 1:
        raise ValueError(f"m is {m}: a real preview shows at least one token")
    start = tokenizer.decode(tokenizer.encode(answer)[:m])
    while start.endswith("\ufffd") and not answer.startswith(start):  # not the answer's own U+FFFD
        start = start[:-1]
    return prompt + connector + start, answer


def virtual_preview(prompt, answer, prefix=PREFIX, connector=CONNECTOR):
    """Return (prompt, answer) with the prefix shown in the prompt and put before the answer.

    >>> virtual_preview("What is 6 * 7?", "It is 42.", prefix="Well. ")
    ('What is 6 * 7? The answer begins with: Well. ', 'Well. It is 42.')
    """
    if not prefix.strip():
        raise ValueError("the prefix is empty: a virtual preview needs some words to show")
    return prompt + connector + prefix, prefix + answer


def preview_pairs(pairs, method, m, prefix, connector, tokenizer):
    """Return (prompt, answer) pairs with one of PREVIEWS, for training."""
    if method == "real":
        return [real_preview(*pair, m, tokenizer, connector) for pair in pairs]
    if method == "virtual":
        return [virtual_preview(*pair, prefix, connector) for pair in pairs]
    raise ValueError(f"unknown preview {method}")


def count_shown_whole(pairs, m, tokenizer):
    """Return how many answers a real preview of m tokens gives away whole.

    >>> count_shown_whole([("Hi.", "It is 42.")], 100, tokenizer)
    1
    """
    return sum(len(tokenizer.encode(answer)) <= m for _, answer in pairs)


def main():
    parser = Parser(__doc__)
    parser.add_argument("source", help="JSONL file, or a JSON array of objects")
    parser.add_argument("target", help="JSONL file to write; other fields are kept as they are")
    parser.add_argument("--mode", choices=PREVIEWS, required=True, help="the method")
    parser.add_argument("--m", type=positive, default=6, help="answer tokens to show (paper: 6)")
    parser.add_argument(
        "--prefix", type=words, default=PREFIX, help="P (paper's code: %(default)r)"
    )
    parser.add_argument("--connector", default=CONNECTOR, help="C (paper: %(default)r)")
    parser.add_argument("--tokenizer", help="SentencePiece model, needed to count in real mode")
    parser.add_argument("--prompt-field", default="question", help="default: %(default)s")
    parser.add_argument("--answer-field", default="answer", help="default: %(default)s")
    args = parser.parse_args()
    if args.mode == "real" and not args.tokenizer:
        raise InputError("--tokenizer is missing: real mode counts tokens and needs it.")
    tokenizer = load_tokenizer(args.tokenizer) if args.mode == "real" else None
    rows = read_rows(args.source, [args.prompt_field, args.answer_field])
    pairs = [(row[args.prompt_field], row[args.answer_field]) for row in rows]
    whole = count_shown_whole(pairs, args.m, tokenizer) if args.mode == "real" else 0
    pairs = preview_pairs(pairs, args.mode, args.m, args.prefix, args.connector, tokenizer)
    for row, (prompt, answer) in zip(rows, pairs):
        row[args.prompt_field], row[args.answer_field] = prompt, answer
    write_rows(args.target, rows)
    say(f"{len(rows)} rows written to {args.target}; {whole} answers were shown whole.")


if __name__ == "__main__":
    run_script(main)
