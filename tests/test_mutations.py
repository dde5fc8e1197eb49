"""Damaged weight files: tensors that lie within the file, or one sentence.

The format has no checksum: a changed byte of a tensor is a changed number.

MUTATIONS=100000 python -m pytest tests/test_mutations.py tries more of them.
"""

import os
import random
import tracemalloc

import pytest
import torch
from lookahead.commands import InputError
from lookahead.tensors import read_tensors, write_tensors

COUNT = int(os.environ.get("MUTATIONS", 10_000))
WORDS = [b"", b"0", b"-1", b"9" * 20, b"1e9", b"[", b"]", b"{", b"}", b'"', b",", b":", b"null",
         b"BF16", b"data_offsets", b"shape", b"\xff", b"\\ud800", b"[" * 3000]  # fmt: skip


def mutate(data, rng):
    """Change, cut out, repeat or insert something at a random place, once to three times."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        # the length and the header are hit more often than the bytes of the tensors
        place = rng.randrange(rng.choice((8, 300, len(data) + 1)))
        span = rng.choice((0, 1, 1, 2, 8, 40))
        piece = rng.choice((bytes([rng.randrange(256)]), data[place : place + 30], *WORDS))
        data[place : place + span] = piece
    return bytes(data)


def test_random_mutations(tmp_path):
    torch.manual_seed(0)
    tensors = {
        "a.weight": torch.randn(3, 5),
        "b": torch.randn(4).bfloat16(),
        "long name" * 3: torch.randn(2, 2, 2).half(),
    }
    write_tensors(tmp_path / "good", tensors)
    good, rng, refused = (tmp_path / "good").read_bytes(), random.Random(1), 0
    path = tmp_path / "bad"
    tracemalloc.start()
    for _ in range(COUNT):
        data = mutate(good, rng)
        path.write_bytes(data)
        tracemalloc.reset_peak()
        try:
            found = dict(read_tensors(path))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 500
            continue
        # What is read lies within the file: every tensor has the bytes that its shape says.
        size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
        assert size <= len(data)
        if found.keys() == tensors.keys():
            assert [t.numel() for t in found.values()] == [t.numel() for t in tensors.values()]
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data) + 10**6
    tracemalloc.stop()
    assert 0.5 < refused / COUNT < 1


def test_the_file_itself_is_read(tmp_path):
    write_tensors(tmp_path / "good", {"a": torch.arange(6.0).view(2, 3)})
    assert torch.equal(dict(read_tensors(tmp_path / "good"))["a"], torch.arange(6.0).view(2, 3))
    with pytest.raises(InputError, match="where its header says"):
        (tmp_path / "good").write_bytes((tmp_path / "good").read_bytes() + b"x")
        dict(read_tensors(tmp_path / "good"))
