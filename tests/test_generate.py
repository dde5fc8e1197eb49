"""Chapter 7: the cache, the batch and the prefilled tokens change no token."""

import random

import pytest
import torch
from conftest import tiny

from lookahead.cli import InputError
from lookahead.files.checkpoint import describe
from lookahead.generate import generate

END = 2


def prompts(n=23):
    draw = random.Random(0)
    return [[1] + [draw.randint(3, 96) for _ in range(draw.randint(1, 30))] for _ in range(n)]


@torch.no_grad()
def ending_model(kv_heads):
    """A tiny model that says END now and then: its word is a little likelier than a common one."""
    model = tiny(kv_heads=kv_heads)
    common = torch.cat([model(torch.tensor([p]))[0] for p in prompts()]).argmax(-1).mode().values
    model.lm_head.weight.data[END] = 1.01 * model.lm_head.weight.data[common]
    return model


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_same_tokens_as_transformers_at_any_batch_size_and_after_prefilled_tokens(kv_heads):
    transformers = pytest.importorskip("transformers")
    model = ending_model(kv_heads)
    config = transformers.AutoConfig.for_model(**describe(model.config))
    peer = transformers.AutoModelForCausalLM.from_config(config).eval()
    peer.load_state_dict(model.state_dict())
    settings = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": END, "pad_token_id": 0}
    expected = []
    for prompt in prompts():
        (ids,) = peer.generate(torch.tensor([prompt]), **settings).tolist()
        expected.append([i for i in ids[len(prompt) :] if i != END])
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 3 and 16 in lengths  # some end early, some at the limit
    for size in (1, 4, 64):
        assert generate(model, prompts(), END, 16, batch_size=size) == expected

    # Each prompt has its own limit.
    started = [prompt + answer[:3] for prompt, answer in zip(prompts(), expected)]
    limits = [1 + i % 13 for i in range(len(started))]
    found = generate(model, started, END, limits, batch_size=5)
    assert found == [answer[3 : 3 + limit] for answer, limit in zip(expected, limits)]


def test_the_context_is_never_exceeded():
    (answer,) = generate(tiny(), [[5] * 120], -1, 50)  # 128 positions
    assert len(answer) == 8 and generate(tiny(), [], END, 5) == []
    with pytest.raises(InputError, match="prompt of 128 tokens leaves no room"):
        generate(tiny(), [[5] * 128], -1, 50)
