"""Chapter 2. Chat: text becomes token ids, and the index at which the answer begins.

One function, `encode_chat`, serves training and generation, so a generation prompt is exactly a
training prompt. BOS and EOS enter as ids and never as text: a template is cut at them before any
prompt is put into it, and `encode("<s>")` gives three ordinary pieces, so nothing a user writes can
forge them. Prompt and answer are encoded separately, so that it is known where the answer begins.
`python -m lookahead.chat` shows a row of a file (a previewed one, if `lookahead.preview` made it)
as the model sees it. Left out: dialogues of several turns.
"""

import os
import re
import sys
import typing

from lookahead.commands import InputError, Parser, run_script
from lookahead.files import load_tokenizer, read_json, read_rows, read_text


class Template(typing.NamedTuple):
    """How a system prompt and a user's prompt become one text; <s> and </s> are BOS and EOS."""

    with_system: str
    without_system: str
    shown_by: tuple  # recognised when its Jinja template has all these words


# Asked in this order: Llama-2's has Mistral's words too. A fork adds its chat model here.
TEMPLATES = {
    "llama-2": Template("<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{user} [/INST]",
                        "<s>[INST] {user} [/INST]", ("[INST] ", "<<SYS>>")),
    "zephyr": Template("<|system|>\n{system}</s>\n<|user|>\n{user}</s>\n<|assistant|>\n",
                       "<|user|>\n{user}</s>\n<|assistant|>\n",  # TinyLlama-Chat has it too
                       ("<|user|>", "<|assistant|>", "message['content'] + eos_token")),
    "vicuna": Template("<s>{system} USER: {user} ASSISTANT:", "<s>USER: {user} ASSISTANT:",
                       ("USER:", "ASSISTANT:")),
    "mistral": Template("<s>[INST] {system}\n\n{user} [/INST]", "<s>[INST] {user} [/INST]",
                        ("[INST] ", " [/INST]")),  # 0.1, 0.2; from 0.3 on no space before [/INST]
}  # fmt: skip


def choose_template(folder, given=None):
    """Return the name of the chat template: the one given, else that of the model directory.

    A directory shows it in our `run.json`, or in a Jinja template. Where it shows none of ours, one
    must be given: none is guessed.
    """
    text = ""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no config.json; give a model's directory in --model.")
    if given:
        return given
    if (folder / "run.json").exists():
        text = str(read_json(folder / "run.json").get("template"))
    elif (folder / "chat_template.jinja").exists():
        text = read_text(folder / "chat_template.jinja")
    elif (folder / "tokenizer_config.json").exists():
        text = str(read_json(folder / "tokenizer_config.json").get("chat_template"))
    for name, template in TEMPLATES.items():
        if text == name or all(words in text for words in template.shown_by):
            return name
    raise InputError(f"{folder}: shows no chat template known here; give --template "
                     f"({', '.join(TEMPLATES)}).")  # fmt: skip


def encode_chat(tokenizer, template, system, prompt, answer=None):
    """Return (ids, start): prompt and answer as one list of ids, the answer beginning at `start`.

    The answer ends with EOS. Without an answer the ids are the prompt to generate from.

    >>> ids, start = encode_chat(tokenizer, "llama-2", "", "Hi.", "Hello.")
    >>> tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:-1])
    ('[INST] Hi. [/INST]', 'Hello.')
    >>> ids[0] == tokenizer.bos_id(), ids[-1] == tokenizer.eos_id()
    (True, True)
    """
    marks, ids = {"<s>": tokenizer.bos_id(), "</s>": tokenizer.eos_id()}, []
    text = TEMPLATES[template].with_system if system else TEMPLATES[template].without_system
    for piece in re.split("(</?s>)", text):
        if piece in marks:
            ids.append(marks[piece])
        else:
            ids += tokenizer.encode(piece.format(system=system, user=prompt))
    start = len(ids)
    if answer is not None:
        # SentencePiece puts a space before a text. After "[/INST]" that is right; on a new line an
        # answer begins without one, so encode it behind a newline and drop that again.
        line = "\n" if text.endswith("\n") else ""
        ids += tokenizer.encode(line + answer)[len(tokenizer.encode(line)) :]
        ids.append(tokenizer.eos_id())
    return ids, start


def decode(tokenizer, ids):
    """Return the text of ids; those beyond the tokenizer's, which round a model up, have none."""
    return tokenizer.decode([i for i in ids if i < tokenizer.vocab_size()])


def view(tokenizer, ids, start, colour):
    """Return the prompt's tokens and the supervised ones as text, with bars between them."""
    grey, green, end = ("\033[90m", "\033[32m", "\033[0m") if colour else ("", "", "")
    pieces = [tokenizer.id_to_piece(i) for i in ids]
    prompt, answer = "|".join(pieces[:start]), "|".join(pieces[start:])
    return f"prompt      {grey}{prompt}{end}\nsupervised  {green}{answer}{end}"


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("source", help="JSONL file, or a JSON array of objects")
    add("--tokenizer", required=True, help="SentencePiece model")
    add("--row", type=int, default=1, help="which row to show (%(default)s)")
    add("--template", choices=TEMPLATES, default="llama-2", help="chat template (%(default)s)")
    add("--system", default="", help="system prompt (none; the tasks' own are in tasks.py)")
    add("--prompt-field", default="question", help="of the prompt (%(default)s)")
    add("--answer-field", default="answer", help="of the answer (%(default)s)")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer)
    rows = read_rows(args.source, [args.prompt_field, args.answer_field])
    if not 1 <= args.row <= len(rows):
        raise InputError(f"--row {args.row}: {args.source} has rows 1 to {len(rows)}.")
    prompt, answer = (rows[args.row - 1][f] for f in (args.prompt_field, args.answer_field))
    ids, start = encode_chat(tokenizer, args.template, args.system, prompt, answer)
    print(view(tokenizer, ids, start, sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    print(f"{start} tokens of prompt, {len(ids) - start} supervised (EOS included)")


if __name__ == "__main__":
    run_script(main)
