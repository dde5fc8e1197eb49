"""Tokenizers under one interface: a SentencePiece model, or a byte-level BPE `tokenizer.json`.

    encode(text, continues=False)   ids of ordinary text, in which no special token is recognised
    decode(ids, continues=False)    text; ids beyond the tokenizer's, which round a model up: none
    special(name), specials         the id of a special token or None, and their names
    piece(id), size                 a token for display, and how many ids there are

SentencePiece puts a space before a text. Where a text continues another one, behind a line break
say, `continues` leaves it out; byte-level BPE adds none. Left out: every other kind of tokenizer.
"""

import pathlib

import sentencepiece

from lookahead.cli import InputError
from lookahead.files.bpe import ByteLevelBPE

# Appended to a model, these bytes set its normalizer_spec.add_dummy_prefix to false.
NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"


class SentencePiece:
    """A SentencePiece model, given as bytes; its control pieces are the special tokens."""

    def __init__(self, model):
        self.model = model
        self.alone = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.continued = sentencepiece.SentencePieceProcessor(model_proto=model + NO_SPACE_BEFORE)
        self.size = self.alone.vocab_size()
        controls = filter(self.alone.is_control, range(self.size))
        self.specials = {self.alone.id_to_piece(i): i for i in controls}
        self.special = self.specials.get
        self.piece = self.alone.id_to_piece

    def normalize(self, t):
        return t

    def encode(self, text, continues=False):
        return (self.continued if continues else self.alone).encode(text)

    def decode(self, ids, continues=False):
        ids = [i for i in ids if i < self.size]
        return (self.continued if continues else self.alone).decode(ids)


def load_tokenizer(path):
    """Return the tokenizer of a file, or of a model directory (`tokenizer.model` first)."""
    path = pathlib.Path(path)
    if path.is_dir():
        model = path / "tokenizer.model"
        path = model if model.is_file() else path / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a tokenizer.model or a tokenizer.json.")
    if path.suffix == ".json":
        return ByteLevelBPE(path)
    try:
        return SentencePiece(path.read_bytes())
    except (RuntimeError, OSError):
        raise InputError(f"{path}: not a SentencePiece model.") from None
