r"""Byte-level BPE in plain Python: the `tokenizer.json` of SmolLM2, Llama 3, Qwen 2, 2.5 and 3.

Text becomes ids in four steps: added words are cut out of it, patterns cut the rest into words, a
word becomes the bytes of its UTF-8, and neighbours are merged, the earliest learned merge first.
The ids are those of the `tokenizers` package, with two differences. Special tokens are never
recognised in text, so no user can write one. Characters newer than Python's Unicode version, or
than the other's, may be cut elsewhere. Bytes that the vocabulary lacks are dropped, as there:
SmolLM2's lacks 13 that never occur in UTF-8, six control characters, and the first byte of some
rare characters. Left out: training, truncation, padding, and the post-processor, since chat.py
places special tokens. What is computed is listed (here and in words.py); anything else that a file
asks for is rejected by name.
"""

import functools
import heapq
import re
import unicodedata

from lookahead.cli import InputError
from lookahead.files.rows import read_json
from lookahead.files.words import GPT2, STEPS, compiled, cut

# The model's settings that are computed, or change no id; all others must be off.
SETTINGS = {"type": "BPE", "ignore_merges": True, "fuse_unk": True}

# A file writes bytes as characters: 188 printable ones as themselves, the others from U+0100 on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + i): b for i, b in enumerate(OTHERS)}


class ByteLevelBPE:
    """The tokenizer in the `tokenizer.json` at `path`; InputError if it is not computed here.

    `specials` has the special tokens and their ids, `special(name)` gives the id of any added token
    or None, and `size` is the highest id plus 1. `continues` changes nothing: no space is put
    before a text.

    >>> tokenizer = ByteLevelBPE("SmolLM2-135M-Instruct/tokenizer.json")
    >>> tokenizer.encode("Hello, world!"), tokenizer.special("<|im_end|>")
    ([19556, 28, 905, 17], 2)
    """

    def __init__(self, path):
        file = read_json(path)
        try:
            self._read_steps(file)
            self._read_added(file.get("added_tokens") or [], file["model"]["vocab"])
            self._read_tokens(file["model"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InputError(f"{path}: not a byte-level BPE that is read here: {reason}.") from None

    def _read_steps(self, file):
        """Read what is done to a text before bytes are merged, and reject what is not computed."""
        normalizer = file.get("normalizer")
        if normalizer not in (None, {"type": "NFC"}):
            raise ValueError(f"normalizer {normalizer!r:.80} is not computed")
        for name, value in file["model"].items():
            if value and name not in ("vocab", "merges") and SETTINGS.get(name) != value:
                raise ValueError(f"{name} {value!r:.80} is not computed")

        # The patterns cut a text one after another, each what the one before has left.
        pre_tokenizer = file.get("pre_tokenizer") or {}
        *steps, last = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
        patterns = [pattern for step in steps for known, pattern in STEPS if step == known]
        in_bytes = last.get("type") == "ByteLevel" and not last.get("add_prefix_space")
        if len(patterns) < len(steps) or not in_bytes:
            raise ValueError(f"pre_tokenizer {pre_tokenizer!r:.600} is not computed")
        if last.get("use_regex", True):
            patterns.append(GPT2)
        self.patterns = [compiled(pattern) for pattern in patterns]
        self.nfc = bool(normalizer)

    def _read_added(self, tokens, vocab):
        """Read the added tokens: special ones, and words that are to be found in text."""
        self.added = ids_of_added(tokens, vocab)
        self.special = self.added.get
        self.specials = {token["content"]: token["id"] for token in tokens if token["special"]}

        # Of words that begin at the same place the longest is found; "normalized" ones come later.
        self.words = {token["content"] for token in tokens if not token["special"]}
        late = {token["content"] for token in tokens if token.get("normalized")}
        groups = [self.words - late, self.words & late]
        longest_first = [sorted(group, key=len, reverse=True) for group in groups]
        patterns = ["|".join(map(re.escape, group)) or "(?!)" for group in longest_first]
        self.word_patterns = [re.compile(f"({pattern})") for pattern in patterns]

    def _read_tokens(self, model):
        """Read the tokens as bytes, and the merges."""
        # No text may have the id of a special token, so none of them may be a part of words.
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        parts = set(BYTES).union(*merges, map("".join, merges))
        if ordinary := parts & set(self.specials):
            raise ValueError(f"the special token {min(ordinary)!r} is a part of words too")
        tokens = {name: to_bytes(name) for name in model["vocab"] if name not in self.specials}
        self.vocab = {token: model["vocab"][name] for name, token in tokens.items()}
        self.whole_words = self.vocab if model.get("ignore_merges") else {}

        # Added words have a text, special tokens have none.
        self.texts = {self.added[name]: name.encode() for name in self.added.keys() - self.specials}
        self.texts |= {i: token for token, i in self.vocab.items()}
        self.size = 1 + max([*model["vocab"].values(), *self.added.values()])

        # For each pair of tokens: the rank of its merge, low if learned early, and what it makes.
        self.merges = {}
        for rank, (left, right) in enumerate(merges):
            self.merges[tokens[left], tokens[right]] = (rank, tokens[left + right])
        self._merged = functools.lru_cache(maxsize=2**16)(self._merge)  # texts repeat their words

    def normalize(self, text):
        """Return a text as it is read: in NFC by the tokenizer of Qwen, else as it is."""
        return unicodedata.normalize("NFC", text) if self.nfc else text

    def encode(self, text, continues=False):
        """Return the ids of a text, in which special tokens are not recognised."""
        # Added words are cut out of it.
        parts = [self.normalize(text)]
        for pattern in self.word_patterns:
            pieces = [[part] if part in self.words else pattern.split(part) for part in parts]
            parts = [part for some in pieces for part in some]

        # The rest becomes words and merged bytes.
        ids = []
        for part in parts:
            if part in self.words:
                ids.append(self.added[part])
            else:
                ids += [i for word in cut(part, self.patterns) for i in self._merged(word)]
        return ids

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
        names = {number: name for name, number in self.added.items()}
        return names.get(i) or self.decode([i])


def ids_of_added(tokens, vocab):
    """Return {name: id} of added tokens, of which a tokenizer's vocabulary {name: id} has some.

    The others are numbered on from its end, in order. ValueError where that is not the id that a
    file gives, or where a token takes spaces with it.
    """
    added = {}
    for token in tokens:
        name = token["content"]
        number = vocab.get(name, max(len(vocab), 1 + max(added.values(), default=0)))
        odd = token.get("lstrip") or token.get("rstrip") or token.get("single_word")
        normal = unicodedata.is_normalized("NFC", name)
        if odd or not name or not normal or name in added or token["id"] != number:
            raise ValueError(f"the added token {token} is not computed (as {number})")
        added[name] = number
    return added


def to_bytes(token):
    """Return the bytes of a token as a file writes it: b" the" of "Ġthe"."""
    return bytes(BYTES[character] for character in token)
