"""Previews for other trainers: rows of a file, written back in their own shape as JSONL.

    python -m lookahead IN.jsonl OUT.jsonl --mode real --m 6 --tokenizer tokenizer.model
    python -m lookahead IN.jsonl OUT.jsonl --mode virtual

The method is data, so any trainer will do: the text is that of `train.py`.
"""

from lookahead.cli import InputError, Parser, at, run_script, say
from lookahead.examples import normalise
from lookahead.files import load_tokenizer
from lookahead.files.rows import read_pair, read_rows, write_pair
from lookahead.files.writing import write_rows
from lookahead.methods import METHODS, add_method_options, apply_preview

MODES = [name for name, method in METHODS.items() if method.preview]


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("source", help="JSONL, a JSON array or CSV: rows with two fields, or chat messages")
    add("target", help="JSONL file to write, in the shape of the source")
    add("--mode", choices=MODES, required=True, help="which preview")
    add("--tokenizer", help="tokenizer.model or tokenizer.json, for a preview that counts tokens")
    add_method_options(parser)
    args = parser.parse_args()

    # A real preview is a number of tokens, so it depends on the tokenizer.
    method = METHODS[args.mode]
    if "tokenizer" in method.preview_options and not args.tokenizer:
        raise InputError(f"--tokenizer is missing: mode {args.mode} counts tokens.")
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
    values = vars(args) | {"tokenizer": tokenizer}

    # Each row keeps its shape and its other fields.
    rows = []
    whole = 0
    for place, row in read_rows(args.source):
        pair = read_pair(row, place)
        if tokenizer:
            pair = normalise(pair, tokenizer)
        with at(place):
            prompt, answer = apply_preview(method, pair.prompt, pair.answer, values)
        rows.append(write_pair(row, prompt, answer))
        whole += prompt.endswith(pair.answer)

    write_rows(args.target, rows)
    say(f"{len(rows)} rows written to {args.target}; {whole} answers are shown whole.")


if __name__ == "__main__":
    run_script(main)
