"""Tokenizers under one interface: a SentencePiece model, or a byte-level BPE `tokenizer.json`.

    encode(text, continues=False)   ids of ordinary text, in which no special token is recognised
    decode(ids, continues=False)    text; ids beyond the tokenizer's, which round a model up: none
    normalize(text)                 a text as the tokenizer reads it: rows are read so
    special(name), specials         the id of a special (or other added) token or None; {name: id}
    piece(id), size                 a token for display, and how many ids there are

SentencePiece puts a space before a text. Where a text continues another one, after a line break
say, `continues` leaves it out; byte-level BPE adds none. Left out: every other kind of tokenizer,
and words that are added to a SentencePiece model.
"""

import json
import pathlib

import sentencepiece

from lookahead.cli import InputError
from lookahead.files.bpe import ByteLevelBPE, ids_of_added
from lookahead.files.config import read_fields

# Appended to a model, these bytes set its normalizer_spec.add_dummy_prefix to false.
NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"


class SentencePiece:
    """A SentencePiece model, given as bytes; its control pieces are special tokens.

    So are those that the files of a `folder` add to it.
    """

    def __init__(self, model, folder=None):
        self.model = model
        self.alone = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.continued = sentencepiece.SentencePieceProcessor(model_proto=model + NO_SPACE_BEFORE)
        controls = filter(self.alone.is_control, range(self.alone.vocab_size()))
        self.specials = {self.alone.id_to_piece(i): i for i in controls}
        if folder:
            self.specials |= read_added(folder, self.alone)
        self.special = self.specials.get
        self.size = max(self.alone.vocab_size(), *(i + 1 for i in self.specials.values()))

    def normalize(self, text):
        return self.continued.normalize(text).replace("▁", " ")

    def encode(self, text, continues=False):
        return (self.continued if continues else self.alone).encode(text)

    def decode(self, ids, continues=False):
        ids = [i for i in ids if i < self.alone.vocab_size()]
        return (self.continued if continues else self.alone).decode(ids)

    def piece(self, i):
        names = {number: name for name, number in self.specials.items()}
        return names.get(i) or self.alone.id_to_piece(i)


def read_added(folder, model):
    """Return {name: id} of the special tokens that a directory adds to a SentencePiece model.

    ValueError for words, which would have to be found in text, and special tokens that it can have.
    """
    # Three files may list added tokens. In old directories a fourth says which are special.
    named = json.dumps(read_fields(folder / "special_tokens_map.json"))
    old = read_fields(folder / "added_tokens.json")
    listed = read_fields(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    tokens = [{"content": name, "id": number} for name, number in old.items()]
    tokens += [token | {"id": int(number)} for number, token in listed.items()]
    tokens += read_fields(folder / "tokenizer.json").get("added_tokens") or []
    special = {token["content"] for token in tokens if token.get("special")}

    # They have ids of their own, whichever file is asked.
    tokens = {(token["id"], token["content"]): token for token in tokens}
    pieces = {model.id_to_piece(i): i for i in range(model.vocab_size())}
    added = ids_of_added([tokens[key] for key in sorted(tokens)], pieces)
    for name, number in added.items():
        if number < len(pieces) and (model.is_control(number) or model.is_unknown(number)):
            continue  # the model's own
        is_special = name in special or json.dumps(name) in named
        if number in model.encode(name) or not is_special:
            raise ValueError(f"the added token {name!r} is a word of text, which is not computed")
    return added


def is_sentencepiece(path):
    """Return whether a tokenizer.json was made of a SentencePiece model, in which ▁ is a space."""
    model = read_fields(path).get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return isinstance(vocab, list) or isinstance(vocab, dict) and "▁" in vocab


def load_tokenizer(path):
    """Return the tokenizer of a file, or of a model directory (`tokenizer.json` first).

    Where that was made of a SentencePiece model, the model itself is read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        model = path / "tokenizer.model"
        path = path / "tokenizer.json"
        path = model if model.is_file() and not path.is_file() else path
    if path.suffix == ".json" and is_sentencepiece(path):
        path = path.with_name("tokenizer.model")
    if not path.is_file():
        raise InputError(f"{path}: no such file; a SentencePiece tokenizer needs its "
                         "tokenizer.model, any other its tokenizer.json.")  # fmt: skip
    if path.suffix == ".json":
        return ByteLevelBPE(path)
    try:
        return SentencePiece(path.read_bytes(), path.parent)
    except RuntimeError:
        raise InputError(f"{path}: not a SentencePiece model; if it is Llama 3's (tiktoken), the "
                         "tokenizer.json is needed.") from None  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path}: {error}.") from None
