"""Chapter 6: which batch a step gets, at which learning rate, and what is logged."""

from types import SimpleNamespace

import pytest
from conftest import tiny
from test_batches import examples

from lookahead.batches import shuffled_batches
from lookahead.training import Loop, Recipe, make_adamw, train


@pytest.mark.parametrize("done", [0, 3])
def test_a_step_has_its_batch_and_every_group_of_weights_its_learning_rate(done):
    """Two epochs of two batches, from the first step or after three that the log holds."""
    steps = []

    def take_step(model, optimizer, batch, token_budget, loss):
        steps.append((batch, [group["lr"] for group in optimizer.param_groups]))
        return 2.0

    loop = Loop(Recipe(epochs=2, batch_size=8, lr=1.0), seed=5, take_step=take_step)
    log = [{"step": step, "tokens": 9, "seconds": 9.0} for step in range(1, done + 1)]
    log = train(None, SimpleNamespace(param_groups=[{}, {}]), examples(16), loop, log)

    # The batches are two epochs' of this seed (test_batches.py: each in an order of its own).
    batches = shuffled_batches(examples(16), 8, 5, epochs=2)
    expected = [(batch, [lr, lr]) for batch, lr in zip(batches, (1.0, 0.75, 0.5, 0.25))]
    assert steps == expected[done:] and [row["step"] for row in log] == [1, 2, 3, 4]


def test_adamw_has_the_betas_of_the_recipe_and_no_weight_decay():
    (group,) = make_adamw(tiny(), Recipe(beta1=0.8)).param_groups
    assert group["betas"] == (0.8, 0.999) and group["weight_decay"] == 0
