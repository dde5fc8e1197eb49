"""Decoding: the cache, the batch and the prefilled start change no token."""

import random

import pytest
import torch
from conftest import tiny

from lookahead.commands import InputError
from lookahead.generate import Cache, generate

EOS = 2


def prompts(n=23):
    draw = random.Random(0)
    return [[1] + [draw.randint(3, 96) for _ in range(draw.randint(1, 30))] for _ in range(n)]


def plainly(model, prompt, limit):
    """Greedy decoding without a cache, one token at a time."""
    ids = list(prompt)
    while len(ids) - len(prompt) < limit:
        token = model(torch.tensor([ids]))[0, -1].argmax().item()
        if token == EOS:
            break
        ids.append(token)
    return ids[len(prompt) :]


def ending_model():
    """A tiny model that says EOS now and then."""
    model = tiny()
    logits = torch.cat([model(torch.tensor([p]))[0] for p in prompts()])
    model.lm_head.weight.data[EOS] *= 0
    model.lm_head.weight.data[EOS] += model.lm_head.weight.data[logits.argmax(-1).mode().values]
    model.lm_head.weight.data[EOS] *= 1.01
    return model


@torch.no_grad()
def test_same_tokens_at_any_batch_size_and_without_a_cache():
    model = ending_model()
    expected = [plainly(model, prompt, 20) for prompt in prompts()]
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 3 and 20 in lengths  # some end early, some at the limit
    for size in (1, 4, 64):
        assert generate(model, prompts(), EOS, 20, batch_size=size) == expected


@torch.no_grad()
def test_each_prompt_may_have_its_own_limit():
    model, limits = tiny(), [1 + i % 7 for i in range(len(prompts()))]
    expected = [plainly(model, prompt, limit) for prompt, limit in zip(prompts(), limits)]
    for size in (1, 4, 64):
        assert generate(model, prompts(), EOS, limits, batch_size=size) == expected
    assert generate(model, [], EOS, 5) == []


@torch.no_grad()
def test_a_prefilled_start_is_continued():
    model = tiny()
    whole = generate(model, prompts(), EOS, 12)
    started = [prompt + answer[:3] for prompt, answer in zip(prompts(), whole)]
    assert generate(model, started, EOS, 9) == [answer[3:] for answer in whole]


def test_the_context_is_never_exceeded():
    model = tiny()  # 128 positions
    (answer,) = generate(model, [[5] * 120], -1, 50)
    assert len(answer) == 8
    with pytest.raises(InputError, match="prompt of 128 tokens leaves no room"):
        generate(model, [[5] * 128], -1, 50)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_same_tokens_as_transformers(kv_heads):
    transformers = pytest.importorskip("transformers")
    model = tiny(kv_heads=kv_heads)
    config = transformers.LlamaConfig(**model.config._asdict())
    peer = transformers.LlamaForCausalLM(config).eval()
    peer.load_state_dict(model.state_dict())
    ours = generate(model, prompts(), EOS, 16, batch_size=5)
    for prompt, answer in zip(prompts(), ours):
        settings = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": EOS}
        ids = peer.generate(torch.tensor([prompt]), pad_token_id=0, **settings)[0, len(prompt) :]
        assert [i for i in ids.tolist() if i != EOS] == answer


def test_rows_move_in_every_layer():
    cache = Cache(tiny().config, 6, 4, "cpu", torch.float32)
    cache.advance(torch.arange(4).expand(6, 4))
    cache.store += torch.arange(6.0)[:, None, None, None]  # layers, 2, rows, heads, slots, width
    cache.move(5, 0)
    assert (cache.store == torch.tensor([5.0, 1, 2, 3, 4, 5])[:, None, None, None]).all()
