"""Chapter 6. Training: the loop that every method shares.

A step: cut the batch into micro-batches, add up their gradients, let AdamW move the weights. The
loop: shuffle the examples, set the learning rate, take a step, log it. Methods differ in their
examples and their loss and in nothing that happens here. With bf16 weights another `take_step`
comes in from `one_gpu/`, which moves each weight inside backward. Left out: gradient clipping,
weight decay, several GPUs.
"""

import math
import time
import typing
from collections.abc import Callable

import torch

from lookahead.batches import micro_batches, pad, shuffled_batches
from lookahead.cli import InputError, Progress
from lookahead.losses import answer_logits, cross_entropy


class Recipe(typing.NamedTuple):
    """The hyperparameters that all methods of a comparison share. The defaults are the paper's."""

    epochs: int = 3
    batch_size: int = 64
    lr: float = 2e-5
    beta1: float = 0.5  # hard-coded in the code that the paper's training sits on
    beta2: float = 0.999
    max_length: int = 512  # tokens of prompt and answer; a longer row is left out
    lora: int = 0  # rank of the adapters; 0 trains all parameters, as the paper does


def make_adamw(model, recipe):
    """Return AdamW over the weights that are trained; the paper's code has no weight decay."""
    # LoRA has frozen the others.
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    betas = (recipe.beta1, recipe.beta2)
    return torch.optim.AdamW(weights, betas=betas, weight_decay=0.0, fused=True)


def learning_rate(recipe, step, steps):
    """Return the learning rate of a step, counted from 1: it falls linearly to zero.

    >>> [learning_rate(Recipe(lr=1.0), step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    return recipe.lr * (1 - (step - 1) / steps)


def take_step(model, optimizer, batch, token_budget, loss):
    """Train the model on a batch of examples; return its mean loss, in nats an answer token."""
    # The batch's answer tokens divide the loss, so that cutting it up changes nothing.
    answer_tokens = sum(len(example.ids) - example.start for example in batch)

    # Forward and backward, a micro-batch at a time: the gradients add up.
    mean = 0.0
    for micro_batch in micro_batches(batch, token_budget):
        tokens, loss_mask, aligned_log_probs = pad(micro_batch, model.lm_head.weight.device)
        logits, targets, positions = answer_logits(model, tokens, loss_mask)  # (N, V), (N,), (N,)
        share = loss(logits, targets, positions, aligned_log_probs) / answer_tokens
        share.backward()
        mean += share.item()

    # The weights move.
    optimizer.step()
    optimizer.zero_grad()
    return mean


class Loop(typing.NamedTuple):
    """What a run of the loop needs besides model, optimizer and examples."""

    recipe: Recipe
    seed: int = 0  # of the order of the examples
    loss: Callable = cross_entropy  # (logits, targets, positions, aligned_log_probs) -> sum
    take_step: Callable = take_step
    token_budget: int = 1024  # padded tokens of a micro-batch
    name: str = "train"  # for the line of progress


def train(model, optimizer, examples, loop, log=(), after_step=None):
    """Fine-tune `model` in place on examples; return the log, {step, loss, tokens, seconds} a step.

    `log` holds the steps that an interrupted run has taken: training goes on after them. After
    each step `after_step(log)` is called, which may save, or watch. InputError where the loss is
    not finite.
    """
    # All batches, and the log of those already done, where a run resumes.
    batches = shuffled_batches(examples, loop.recipe.batch_size, loop.seed, loop.recipe.epochs)
    log = list(log)
    tokens = log[-1]["tokens"] if log else 0
    seconds = log[-1]["seconds"] if log else 0.0
    progress = Progress(loop.name, len(batches), len(log))

    for step in range(len(log) + 1, len(batches) + 1):
        # The learning rate falls to zero, for every group of weights.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(loop.recipe, step, len(batches))

        # Forward, backward, step.
        batch = batches[step - 1]
        started = time.monotonic()
        loss = loop.take_step(model, optimizer, batch, loop.token_budget, loop.loss)
        if not math.isfinite(loss):
            raise InputError(f"{loop.name}: the loss is {loss} at step {step}; try a lower --lr.")

        # The log counts real tokens, without padding, and no time for saving.
        seconds += time.monotonic() - started
        tokens += sum(len(example.ids) for example in batch)
        log.append({"step": step, "loss": loss, "tokens": tokens, "seconds": round(seconds, 3)})
        progress.show(step, f"loss {loss:.3f}  {tokens / seconds:,.0f} tokens/s")
        if after_step:
            after_step(log)
    return log
