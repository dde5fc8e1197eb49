r"""Words: how a `tokenizer.json` cuts a text before its bytes are merged (bpe.py).

The steps that are computed are listed, each with the pattern that cuts as it does; any other is
rejected, since `re` reads some signs otherwise than the engine for which files write them. What is
a letter or a number is asked of Python's `unicodedata`.
"""

import re
import unicodedata

# Patterns that cut a text into words, as files write them: GPT-2's; that of Qwen 2 to 3; and Llama
# 3's, which keeps up to three digits together.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

# The steps before the last one, ByteLevel, that are computed, and the pattern that cuts like each.
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
STEPS = [
    ({"type": "Digits", "individual_digits": True}, r"\p{N}"),  # SmolLM2's
    (SPLIT | {"pattern": {"Regex": QWEN}}, QWEN),
    (SPLIT | {"pattern": {"Regex": LLAMA3}}, LLAMA3),
]


class Kinds(dict):
    r"""What the patterns see of a character, for `str.translate`.

    A letter is \w, a number U+0001, white space \s. Of ASCII all but numbers and the underline stay
    what they are, since patterns name some. So `re` needs no classes of 100,000 characters.
    """

    def __missing__(self, code):
        kinds = {"L": "x", "N": "\1", "Z": "\t"}
        kind = kinds.get(unicodedata.category(chr(code))[0], "!")
        return self.setdefault(code, chr(code) if code < 128 and kind != "\1" else kind)


# Exceptions: what else is \w or U+0001, a white space that is a control character, and a kind of s.
KINDS = Kinds({ord("_"): "!", 1: "!", 0x85: "\t", ord("ſ"): "S"})


def compiled(pattern):
    """Return a file's pattern for texts as KINDS has them; its `split` keeps what it matches."""
    return re.compile(f"({pattern})".replace(r"\p{L}", r"\w").replace(r"\p{N}", "\1"), re.ASCII)


def cut(text, patterns):
    """Yield the words that patterns make of a text, each pattern of what the one before has left.

    >>> list(cut("It's 42.", [compiled(QWEN)]))
    ['It', "'s", ' ', '4', '2', '.']
    """
    parts = [text.translate(KINDS)]
    for pattern in patterns:
        parts = [part for whole in parts for part in pattern.split(whole) if part]
    end = 0
    for part in parts:
        begin, end = end, end + len(part)
        yield text[begin:end]
