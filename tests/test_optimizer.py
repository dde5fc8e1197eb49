"""The learning rate falls as the recipe says, and AdamW steps as its formula says."""

import math

import pytest
import torch
from conftest import tiny

from lookahead.optimizer import Recipe, adamw, learning_rate


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
