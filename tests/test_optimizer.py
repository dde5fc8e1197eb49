"""The learning rate falls as the recipe says, and AdamW steps as its formula says."""

import functools
import gc
import math
import weakref

import pytest
import torch
from conftest import tiny
from lookahead.lora import add_lora
from lookahead.optimizer import Recipe, SplitAdamW, adamw, join, learning_rate, split
from test_batches import examples

import train


def test_cosine_schedule():
    rates = [learning_rate(Recipe(lr=2.0, schedule="cosine"), step, 4) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([1 + math.cos(math.pi * k / 4) for k in range(4)])


def test_the_first_step_of_adamw():
    model, recipe = tiny(), Recipe(beta1=0.5)
    optimizer = adamw(model, recipe)
    weight = model.lm_head.weight
    before, weight.grad = weight.detach().double(), torch.randn_like(weight)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    # At the first step both moments are the bias-corrected gradient and its square.
    gradient = weight.grad.double()
    expected = before - 0.01 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-6)


def test_split_and_join_give_back_every_bit():
    bits = torch.randint(-(2**31), 2**31 - 1, (1_000_000,), dtype=torch.int32)
    assert torch.equal(join(*split(bits.view(torch.float32))).view(torch.int32), bits)


def test_the_upper_half_is_the_nearest_bfloat16():
    numbers = torch.randn(1_000_000)
    upper, rest = split(numbers)
    halfway = rest == -0x8000  # as near to the one as to the other
    assert torch.equal(upper[~halfway], numbers.bfloat16()[~halfway]) and halfway.sum() < 100


START = 0.02 * torch.randn(20_000, generator=torch.Generator().manual_seed(0)).bfloat16()


def hundred_steps(build, dtype, backward=False):
    """Train 20,000 weights of a real model's size for 100 steps at 2e-5, on seeded gradients."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(START.clone().to(dtype))
    settings = {} if backward else {"weight_decay": 0.0}
    optimizer = build([weight], betas=(0.5, 0.999), **settings)
    for step in range(100):
        gradient = 1e-3 * torch.randn(20_000, generator=draw).bfloat16()
        optimizer.param_groups[0]["lr"] = 2e-5 * (1 - step / 100)
        if backward:
            (weight * gradient).sum().backward()
            assert weight.grad is None
        else:
            weight.grad = gradient.to(weight.dtype)
            optimizer.step()
    return weight.detach(), optimizer


def distance(weights, expected):
    """The norm of what a run missed of the expected change, over the norm of that change."""
    return ((weights.float() - expected).norm() / (expected - START.float()).norm()).item()


def test_the_masters_follow_float32_adamw_bit_for_bit():
    expected, _ = hundred_steps(torch.optim.AdamW, torch.float32)
    exact = functools.partial(SplitAdamW, moment=torch.float32)
    weight, optimizer = hundred_steps(exact, torch.bfloat16, backward=True)
    master = join(weight, optimizer.state[next(iter(optimizer.state))]["rest"])
    assert torch.equal(master, expected)
    assert torch.equal(weight, split(expected)[0])


def test_bfloat16_alone_loses_updates_and_the_split_master_does_not():
    expected, _ = hundred_steps(torch.optim.AdamW, torch.float32)
    split_weight, optimizer = hundred_steps(
        SplitAdamW, torch.bfloat16, backward=True
    )  # first moment in bfloat16
    master = join(split_weight, optimizer.state[next(iter(optimizer.state))]["rest"])
    plain, _ = hundred_steps(torch.optim.AdamW, torch.bfloat16)
    moved = [(weight != START).float().mean().item() for weight in (split_weight, plain)]
    print(f"moved: split {moved[0]:.0%}, plain {moved[1]:.0%}; update missed: split "
          f"{distance(master, expected):.2%}, plain {distance(plain, expected):.0%}")  # fmt: skip
    assert moved[0] > 0.65 and moved[1] < 0.35
    assert distance(master, expected) < 0.002 and distance(plain, expected) > 0.8


def test_each_parameter_steps_inside_backward():
    first, second = (torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = SplitAdamW([first, second], (0.5, 0.999))
    optimizer.param_groups[0]["lr"] = 0.5
    (first.sum() + 2 * second.sum()).backward()
    for weight in (first, second):
        assert weight.grad is None and (weight == 0.5).all()


def test_ten_bytes_a_parameter():
    weight = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    (_, *kept) = SplitAdamW([weight], (0.5, 0.999)).state[weight].values()
    assert weight.element_size() + sum(tensor.element_size() for tensor in kept) == 10


def trained(dtype, token_budget=10**6, lora=0, recompute=False):
    """Train a tiny model for eight steps; return all its weights, and the first and last loss."""
    model = tiny().to(dtype)
    model.recompute = recompute
    if lora:
        add_lora(model, lora, seed=0)
    recipe = Recipe(epochs=2, batch_size=16, lr=1e-2 if lora else 1e-3)
    log = train.train(model, examples(64), recipe, 0, "test", token_budget)
    weights = torch.cat([weight.detach().flatten().float() for weight in model.parameters()])
    return weights, log[0]["loss"], log[-1]["loss"]


@pytest.mark.parametrize("token_budget", [10**6, 200])
@pytest.mark.parametrize("recompute", [False, True])
def test_training_in_bfloat16_goes_where_float32_goes(token_budget, recompute):
    start = torch.cat([weight.detach().flatten() for weight in tiny().parameters()])
    expected, first, last = trained(torch.float32)
    weights, _, loss = trained(torch.bfloat16, token_budget, recompute=recompute)
    assert last < first - 0.05 and loss == pytest.approx(last, rel=0.01)
    change = weights - start.bfloat16().float()
    assert torch.cosine_similarity(change, expected - start, dim=0) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_with_adapters(dtype):
    _, first, last = trained(dtype, lora=4)
    assert last < first - 0.05
    assert trained(dtype, 200, lora=4)[2] == pytest.approx(last, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_finished_run_leaves_nothing_in_memory(dtype, recompute):
    model = tiny().to(dtype)
    model.recompute = recompute
    kept = [weakref.ref(weight) for weight in model.parameters()]
    for _ in range(2):  # a second training has hooks of its own; the first ones are dead
        train.train(model, examples(16), Recipe(epochs=1, batch_size=8), 0, "test", 1000)
    del model
    gc.collect()
    assert not any(weight() is not None for weight in kept)  # the next run needs the room
