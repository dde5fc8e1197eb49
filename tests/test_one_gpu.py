"""One GPU: an exact master that starts off the bf16 grid, one backward a step, adapters."""

import gc
import weakref
from unittest.mock import Mock

import pytest
import torch
from conftest import tiny
from test_batches import examples
from test_losses import close, moved, with_aligned
from torch import nn

from lookahead import one_gpu, training
from lookahead.baselines import constrained_sft
from lookahead.batches import micro_batches
from lookahead.losses import cross_entropy
from lookahead.one_gpu import add_lora, fill_masters, lora, merge_lora, split_adamw
from lookahead.one_gpu.halves import join, round_at_random, split
from lookahead.one_gpu.split_adamw import SplitAdamW

STEP = 2.0**-7  # between bf16 numbers from 1 to 2


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def master_of(weight, optimizer):
    return join(weight.detach(), optimizer.state[weight]["rest"])


def test_split_and_join_give_back_every_bit():
    upper = torch.arange(-0x8000, 0x8000, dtype=torch.int32) << 16  # inf, denormals, -0 among them
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=torch.int32)
    numbers = (upper[:, None] + lower).view(torch.float32)
    joined = join(*split(numbers))
    same = joined.view(torch.int32) == numbers.view(torch.int32)  # 0 and -0 are two
    assert (same | numbers.isnan()).all()
    for result in (joined, split(numbers)[0], round_at_random(numbers)):
        assert torch.equal(result.isnan(), numbers.isnan())
        assert torch.equal(result[numbers.isinf()], numbers.bfloat16()[numbers.isinf()])


def hundred_steps(weight, build, **options):
    """Take 100 steps on seeded gradients at a falling learning rate; return the optimizer."""
    optimizer = build([weight], betas=(0.5, 0.999), **options)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 2e-5 * (1 - step / 100)
        (weight * (1e-3 * drawn(20_000, seed=step)).bfloat16()).sum().backward()
        if build is torch.optim.AdamW:
            optimizer.step()
            optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("moment, most", [(torch.float32, 0.0), (torch.bfloat16, 1e-5)])
def test_the_masters_follow_float32_adamw_bit_for_bit(monkeypatch, moment, most):
    monkeypatch.setattr(split_adamw, "CPU_PIECE", 4096)  # the last piece is shorter
    weight = nn.Parameter(0.02 * drawn(20_000).bfloat16())
    expected = nn.Parameter(weight.detach().float())
    hundred_steps(expected, torch.optim.AdamW, weight_decay=0.0)
    master = master_of(weight, hundred_steps(weight, SplitAdamW, moment=moment))
    torch.testing.assert_close(master, expected.detach(), atol=most, rtol=0)
    assert torch.equal(weight, split(master)[0])


def test_the_forward_pass_sees_a_small_update_on_average():
    """An update of a tenth of a bf16 step moves a tenth of the weights by a whole step."""
    model = tiny().bfloat16()
    weight = model.lm_head.weight
    before = nn.init.constant_(weight, 1.5).clone()
    optimizer = SplitAdamW([weight], (0.9, 0.999))
    fill_masters(optimizer, model, [("lm_head.weight", before)], seed=0)
    assert torch.equal(weight, before)
    optimizer.param_groups[0]["lr"] = 0.1 * STEP  # the length of AdamW's first step
    (-weight).sum().backward()
    change = (weight.float() - 1.5) / STEP
    assert change.mean().item() == pytest.approx(0.1, abs=0.02)  # 3.7 standard deviations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_masters_are_what_the_file_holds(dtype, monkeypatch):
    model = tiny(tie_word_embeddings=True).bfloat16()
    weight, gain = model.lm_head.weight, model.model.norm.weight
    numbers = drawn(97, 32).to(dtype)
    numbers[0] = 0.0 * numbers[0]  # 0 and -0
    file = {"lm_head.weight": -numbers, "model.embed_tokens.weight": numbers}
    file["model.norm.weight"] = torch.ones(32, dtype=dtype)
    optimizer = SplitAdamW(model.parameters(), (0.9, 0.999))
    masters = []
    monkeypatch.setattr(split_adamw, "CPU_PIECE", 1000)  # the last piece is shorter
    for seed in (0, 0, 1):
        fill_masters(optimizer, model, file.items(), seed)
        masters.append(master_of(weight, optimizer))
    assert torch.equal(weight, split(numbers.float())[0]) and (gain == 1).all()
    assert not (master_of(gain, optimizer) == 1).any()  # in any file on the grid
    as_in_file = masters[0] == numbers
    assert as_in_file[0].all() and as_in_file[1:].any() == (dtype != torch.bfloat16)
    assert torch.equal(*masters[:2]) and torch.equal(*masters[1:]) == (dtype != torch.bfloat16)


@pytest.mark.parametrize("loss", [cross_entropy, constrained_sft])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("piece", [2048, 7])
def test_one_backward_gives_the_gradients_of_many(loss, recompute, piece, monkeypatch):
    monkeypatch.setattr(split_adamw, "ANSWER_PIECE", piece)
    losses, gradients = [], []
    batch = with_aligned(examples(), moved(tiny()))
    for take_step in (training.take_step, one_gpu.take_step):
        model = tiny(tie_word_embeddings=True)
        model.recompute = recompute
        pieces = Mock(wraps=loss)
        losses.append(take_step(model, Mock(), batch, 100, pieces))
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert close(*gradients)
    assert max(len(call.args[0]) for call in pieces.call_args_list) <= piece


def test_a_block_is_stepped_before_backward_goes_on_to_the_one_below():
    model = tiny(layers=3).bfloat16()
    optimizer = SplitAdamW(model.parameters(), (0.5, 0.999))
    events = []
    for i, block in enumerate(model.model.layers):
        block.register_full_backward_hook(lambda *_, i=i: events.append(i))
        for weight in block.parameters():
            weight.register_post_accumulate_grad_hook(lambda _, i=i: events.append(i))
    one_gpu.take_step(model, optimizer, examples(), 100, cross_entropy)
    count = len(micro_batches(examples(), 100))
    assert events == [2] * (9 + count) + [1] * (9 + count) + [0] * (9 + count) and count > 2

    # Nothing stays in memory: the next run needs the room.
    weight = weakref.ref(model.lm_head.weight)
    kept = [tensor for tensor in optimizer.state[weight()].values() if tensor.dim()]
    assert sum(tensor.element_size() for tensor in [weight(), *kept]) == 10  # bytes a parameter
    del model, optimizer, block
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_adapters_alone_are_trained_then_merged(dtype, most, monkeypatch):
    model = tiny().to(dtype)
    tokens = torch.arange(5, 17)[None]
    plain = model(tokens)
    names = model.state_dict().keys()
    add_lora(model, 4, seed=0)
    assert torch.equal(model(tokens), plain)
    for weight in filter(lambda weight: weight.requires_grad, model.parameters()):
        nn.init.normal_(weight, std=0.03)
    adapted = model(tokens)
    adapted.sum().backward()
    trained = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert len(trained) == 2 * 7 * 2
    spy = Mock(wraps=round_at_random)  # rounded to nearest, small updates would be lost
    monkeypatch.setattr(lora, "round_at_random", spy)
    merge_lora(model, seed=0)
    assert spy.called == (dtype == torch.bfloat16)
    torch.testing.assert_close(model(tokens), adapted, atol=most, rtol=0)
    assert (adapted - plain).abs().max() > 2 * most and model.state_dict().keys() == names
    assert all(weight.requires_grad for weight in model.parameters())
