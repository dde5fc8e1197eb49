r"""Byte-level BPE in plain Python: the `tokenizer.json` of SmolLM2, Llama 3, Qwen 2, 2.5 and 3.

Text becomes ids in three steps: patterns cut it into words, a word becomes the bytes of its UTF-8,
and neighbours are merged, the earliest learned merge first. The ids are those of the `tokenizers`
package, with two differences. Special tokens are never recognised in text, so no user can write
one. What is a letter or a number is asked of Python's `unicodedata`, so characters newer than its
Unicode version, or than the other's, may be cut elsewhere. Bytes that the vocabulary lacks are
dropped, as there: SmolLM2's lacks 13 that never occur in UTF-8, six control characters, and the
first byte of some rare characters. Left out: training, truncation, padding, and the post-processor,
since chat.py places special tokens. Whatever else a file asks for is rejected by name.
"""

import functools
import heapq
import re
import unicodedata

from lookahead.cli import InputError
from lookahead.files.rows import read_json

# Types, with Split's one behavior, and settings that are computed here or change no id.
TYPES = ["NFC", "Split", "Isolated", "Digits", "ByteLevel", "BPE"]
SETTINGS = ["pattern", "individual_digits", "use_regex", "trim_offsets"]
SETTINGS += ["vocab", "merges", "ignore_merges", "fuse_unk"]

# How ByteLevel cuts text: contractions, letters, numbers, other characters, white space.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Unicode's white space, as the inside of [...]. Python's \s has U+001C to U+001F too.
SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

# A file writes bytes as characters: 188 printable ones as themselves, the others from U+0100 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + i): b for i, b in enumerate(OTHERS)}


class ByteLevelBPE:
    """The tokenizer in the `tokenizer.json` at `path`; InputError if it is not computed here.

    `specials` has the text of every added token and its id, `special(name)` gives that id or None,
    and `size` is the highest id plus 1. `continues` changes nothing: no space is put before a text.

    >>> tokenizer = ByteLevelBPE("SmolLM2-135M-Instruct/tokenizer.json")
    >>> tokenizer.encode("Hello, world!"), tokenizer.special("<|im_end|>")
    ([19556, 28, 905, 17], 2)
    """

    def __init__(self, path):
        file = read_json(path)
        try:
            self._read_steps(file)
            self._read_tokens(file)
            self.encode("")  # compiles the patterns, any of which may be invalid
        except KeyError as error:
            raise InputError(f"{path}: {error} is missing; is it a tokenizer.json?") from None
        except (ValueError, TypeError, AttributeError, re.error) as error:
            raise InputError(f"{path}: not a byte-level BPE that is read here: {error}.") from None

    def _read_steps(self, file):
        """Read what is done to a text before bytes are merged, and reject what is not computed."""
        # Any setting that is on must be a known one.
        pre_tokenizer = file["pre_tokenizer"] or {}
        *cuts, byte_level = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
        for part in [file["normalizer"] or {}, *cuts, byte_level, file["model"]]:
            for name, value in part.items():
                if value and value not in TYPES and name not in SETTINGS:
                    raise ValueError(f"{name} {value!r:.40} is not computed")

        # The patterns cut a text one after another, each what the one before has left.
        self.nfc = bool(file["normalizer"])
        self.patterns = []
        for step in cuts:
            if step["type"] == "Split":
                self.patterns.append(step["pattern"]["Regex"])
            else:
                self.patterns.append(r"\p{N}" if step["individual_digits"] else r"\p{N}+")
        if byte_level["use_regex"]:
            self.patterns.append(GPT2)

    def _read_tokens(self, file):
        """Read the tokens as bytes, and the merges."""
        # Added tokens are not looked for in text. Those that are not special have a text all the
        # same, <think> for example.
        added = file["added_tokens"]
        special = {token["content"] for token in added if token["special"]}
        self.specials = {token["content"]: token["id"] for token in added}
        self.special = self.specials.get

        # Special tokens are left out of the vocabulary, so that no text has their ids.
        model = file["model"]
        tokens = {name: to_bytes(name) for name in model["vocab"] if name not in special}
        self.vocab = {token: model["vocab"][name] for name, token in tokens.items()}
        self.whole_words = self.vocab if model.get("ignore_merges") else {}
        self.texts = {i: token for token, i in self.vocab.items()}
        self.texts |= {t["id"]: t["content"].encode() for t in added if not t["special"]}
        self.size = 1 + max([*model["vocab"].values(), *self.specials.values()])

        # For each pair of tokens: the rank of its merge, low if learned early, and what it makes.
        self.merges = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            self.merges[tokens[left], tokens[right]] = (rank, tokens[left + right])
        self._merged = functools.lru_cache(maxsize=2**16)(self._merge)  # texts repeat their words

    def encode(self, text, continues=False):
        """Return the ids of a text, in which special tokens are not recognised."""
        # The faster patterns know no characters beyond U+FFFF, which NFC may bring in.
        if self.nfc:
            text = unicodedata.normalize("NFC", text)
        points = 0x110000 if re.search("[\U00010000-\U0010ffff]", text) else 0x10000
        words = [text]
        for pattern in self.patterns:
            split = compiled(pattern, points).split
            words = [part for word in words for part in split(word) if part]
        return [i for word in words for i in self._merged(word)]

    def _merge(self, word):
        """Return the ids of a word: merge its bytes, earliest rule first, leftmost pair first."""
        text = word.encode()
        if text in self.whole_words:
            return [self.whole_words[text]]
        pieces = [bytes([byte]) for byte in text if bytes([byte]) in self.vocab]

        # The piece at i ends where the next one begins, at i plus its length. A piece that is
        # merged into the one before it becomes empty. One more, empty, stands at the end.
        pieces.append(b"")
        before = list(range(-1, len(pieces) - 1))  # where the piece before i begins
        heap = []

        def propose(i):
            pair = (pieces[i], pieces[i + len(pieces[i])])
            if pair in self.merges:
                heapq.heappush(heap, (self.merges[pair], i, pair))

        # Merge the best pair of all; its neighbours on both sides then form new pairs.
        for i in range(len(pieces)):
            propose(i)
        while heap:
            (_, token), i, pair = heapq.heappop(heap)
            j = i + len(pieces[i])
            if pair == (pieces[i], pieces[j]):  # neither was merged meanwhile
                pieces[i], pieces[j] = token, b""
                before[i + len(token)] = i
                propose(before[i])
                propose(i)
        return [self.vocab[piece] for piece in pieces if piece]

    def decode(self, ids, continues=False):
        """Return the text of ids; special tokens and ids beyond the vocabulary have none.

        Bytes that are no UTF-8, as where ids are cut inside a character, become U+FFFD.
        """
        return b"".join(self.texts.get(i, b"") for i in ids).decode(errors="replace")

    def piece(self, i):
        """Return the text of one id, for display; added tokens are shown by name."""
        names = {number: name for name, number in self.specials.items()}
        return names.get(i) or self.decode([i])


def to_bytes(token):
    """Return the bytes of a token as a file writes it: b" the" of "Ġthe"."""
    return bytes(BYTES[character] for character in token)


@functools.lru_cache
def compiled(pattern, points):
    r"""Return a file's pattern for `re`, which has no \p{L} or \p{N}, and another \s.

    Its `split` gives the matches and what lies between them. It serves texts of code points below
    `points`: a pattern that ends at 0x10000 is three times faster.
    """
    if unknown := re.search(r"\\[^\WprntsS]|\((?!\?)", pattern):
        raise ValueError(f"{unknown[0]} in a pattern is not computed")

    # Outside of [...], \p{L} and \s need brackets of their own.
    parts = re.split(r"(\[(?:\\.|[^\]])*\])", pattern.replace(r"\S", r"[^\s]"))
    parts[::2] = [re.sub(r"\\p\{\w\}|\\s", r"[\g<0>]", part) for part in parts[::2]]
    pattern = "".join(parts).replace(r"\s", SPACES)

    # A run of one letter here is a range of code points: 80 times faster than single characters.
    categories = "".join(unicodedata.category(chr(i))[0] for i in range(points))
    for name in "CLMNPSZ":
        runs = re.finditer(f"{name}+", categories)
        ranges = "".join(rf"\U{run.start():08x}-\U{run.end() - 1:08x}" for run in runs)
        pattern = pattern.replace(rf"\p{{{name}}}", ranges)
    return re.compile(f"({pattern})")
