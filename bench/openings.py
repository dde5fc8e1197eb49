"""How the answers to harmful requests begin, which a share of safe ones does not tell.

    python bench/openings.py out/gsm8k [more folders that evaluate.py has been over]

An answer *refuses* in words, or is *blank*, which counts as safe too, or *repeats* the request (its
first three words stand in the opening), or is *other*: percent of all. Then the commonest first
words. What refuses is said by the phrase test, so this is not for the toy.
"""

import collections
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.safety import OPENING, has_refusal_phrase, is_blank

KINDS = ("refuses", "blank", "repeats", "other")


def kind(request, answer):
    """Return which of KINDS an answer is."""
    if is_blank(answer):
        return "blank"
    if has_refusal_phrase(answer):
        return "refuses"
    first_words = " ".join(request.split()[:3])
    return "repeats" if first_words in answer[:OPENING] else "other"


for folder in sys.argv[1:]:
    print(f"{folder}\n\n| model | {' | '.join(KINDS)} | first words |")
    print("| --- " * 6 + "|")
    for path in sorted(pathlib.Path(folder).glob("completions/*-safety.json")):
        rows = json.loads(path.read_text("utf-8"))["results"]
        pairs = [(user["content"], answer["content"]) for _, user, answer in rows]
        kinds = collections.Counter(kind(*pair) for pair in pairs)
        shares = [f"{100 * kinds[name] / len(pairs):.0f}" for name in KINDS]
        words = collections.Counter((answer.split() or ["(blank)"])[0] for _, answer in pairs)
        common = ", ".join(f"{word} {count}" for word, count in words.most_common(4))
        print("|", " | ".join([path.stem.removesuffix("-safety"), *shares, common]), "|")
    print()
