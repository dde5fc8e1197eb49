"""The hyperparameters of a run, the learning-rate schedule and AdamW.

The defaults are the paper's recipe: its code trains with AdamW without weight decay and lets the
rate fall linearly to zero, without warm-up. Left out: gradient clipping, which the paper's code
asks for and probably does not apply.
"""

import dataclasses
import math

import torch


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters that all methods of a comparison share. The defaults are the paper's."""

    epochs: int = 3
    batch_size: int = 64
    lr: float = 2e-5
    schedule: str = "linear"  # or "cosine"; both fall to zero
    beta1: float = 0.5  # hard-coded in the paper's code
    beta2: float = 0.999
    max_length: int = 512  # tokens of prompt and answer; a longer example is left out


def learning_rate(recipe, step, steps):
    """Return the rate of a step, counted from 1, on its way from `lr` to zero.

    >>> [learning_rate(Recipe(lr=1.0), step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    done = (step - 1) / steps
    share = 1 - done if recipe.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return recipe.lr * share


def adamw(model, recipe):
    """Return AdamW over all parameters, in one fused kernel."""
    betas = (recipe.beta1, recipe.beta2)
    return torch.optim.AdamW(model.parameters(), betas=betas, weight_decay=0.0, fused=True)
