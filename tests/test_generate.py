"""Chapter 7: the cache, the batch and the prefilled tokens change no token."""

import collections
import itertools
import random

import pytest
import torch
from conftest import tiny
from test_model import peer_of

from lookahead.cli import InputError
from lookahead.generate import generate


def prompts(n=23):
    draw = random.Random(0)
    return [[1] + [draw.randint(3, 96) for _ in range(draw.randint(1, 30))] for _ in range(n)]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_same_tokens_as_transformers_at_any_batch_size_and_after_prefilled_tokens(kv_heads):
    model = tiny(kv_heads=kv_heads)
    peer = peer_of(model)
    answers = []
    for prompt in prompts():
        settings = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
        answers.append(peer.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist())

    # Let the models' two most common tokens be ends.
    ends = [token for token, _ in collections.Counter(sum(answers, [])).most_common(2)]
    expected = [list(itertools.takewhile(lambda i: i not in ends, answer)) for answer in answers]
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 2 and 16 in lengths  # some end early, some at the limit
    for size in (1, 4, 64):
        assert generate(model, prompts(), ends, 16, batch_size=size) == expected

    # Each prompt has its own limit.
    started = [prompt + answer[:3] for prompt, answer in zip(prompts(), expected)]
    limits = [1 + i % 13 for i in range(len(started))]
    more = generate(model, started, ends, limits, batch_size=5)
    assert more == [answer[3 : 3 + limit] for answer, limit in zip(expected, limits)]


def test_the_context_is_never_exceeded():
    (answer,) = generate(tiny(), [[5] * 120], [], 50)  # 128 positions
    assert len(answer) == 8 and generate(tiny(), [], [], 5) == []
    with pytest.raises(InputError, match="prompt of 128 tokens leaves no room"):
        generate(tiny(), [[5] * 128], [], 50)
