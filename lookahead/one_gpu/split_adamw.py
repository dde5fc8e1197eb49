"""AdamW over bf16 weights with an exact fp32 master; each weight is stepped inside backward.

`take_step` runs one backward over the whole batch, and a hook on every weight steps it as soon as
its gradient is complete, then frees the gradient: never are all of them in memory. So nothing is
left to do after backward.

A bf16 number is the upper half of an fp32 number (`halves.py`). The model has the upper halves as
its weights and the optimizer keeps the lower ones, the *rest*: together they are the fp32 *master*
weight. It is joined, stepped and split again, in 10 bytes a parameter with both moments.

An exact master is not enough: where it starts matters. The forward pass sees the master rounded to
bf16, and a rounded weight moves only when the master crosses the middle between two bf16 numbers. A
bf16 checkpoint puts every master exactly on a bf16 number, so each must first travel half a step
(for a weight of 0.1 that is 2.4e-4, a dozen updates of 2e-5) and until then the forward pass sees
none of them, of any weight: the model learns less at first, and a bf16 copy of it has lost most of
what it learned. With rests drawn uniformly at random some masters lie just before a middle. An
update of a tenth of a step moves a tenth of the weights by a whole step: the mean is right from the
first update on. It costs nothing, and the first forward pass is unchanged to the bit. On SmolLM2,
after 16 steps at 2e-5, test loss is 1.10 with fp32 weights, 1.10 with random rests, 1.17 without;
of what is saved in bf16 it is 1.43 (fp32 to nearest), 1.10 and 1.28 (bench/results/bf16.md).

Left out: weight decay, and gradient clipping, which needs all gradients at once.
"""

import functools

import torch
from torch.utils.checkpoint import checkpoint

from lookahead.batches import micro_batches, pad
from lookahead.losses import select_answers
from lookahead.one_gpu.halves import join, split

# How many numbers are stepped at a time, for the fp32 temporaries. On a CPU they stay in the cache:
# 2.4 (one core) to 4 times (two) as fast as a whole matrix at once. On a GPU a temporary takes 64
# MiB; with smaller pieces the GPU would wait for Python.
CPU_PIECE = 2**17
GPU_PIECE = 2**24
ANSWER_PIECE = 2048  # answer tokens whose logits are in memory at a time


def pieces(*tensors):
    """Return tensors of one shape in pieces, flat: those of the first numbers of all, and so on."""
    size = CPU_PIECE if tensors[0].device.type == "cpu" else GPU_PIECE
    return zip(*(tensor.view(-1).split(size) for tensor in tensors))


class SplitAdamW:
    """AdamW over bf16 parameters, whose step is done when backward returns.

    There must be one backward a step, over the whole batch: see `take_step`. The loop sets the
    learning rate in `param_groups` as in PyTorch. With a first `moment` of torch.float32 the
    masters follow torch.optim.AdamW without weight decay bit for bit. At first each master is
    exactly its weight; `fill_masters` sets better ones. A model gets one such optimizer in its
    life: the hooks stay.
    """

    def __init__(self, parameters, betas, moment=torch.bfloat16):
        group = {"lr": 0.0, "betas": betas}
        self.param_groups = [group]
        self.state = {}  # {parameter: {name: tensor}}
        for weight in parameters:
            state = {"step": torch.zeros(())}
            for name, dtype in (("rest", torch.int16), ("m", moment), ("v", torch.float32)):
                state[name] = torch.zeros_like(weight, dtype=dtype)
            self.state[weight] = state
            # A hook gets the state of its weight, not `self`: the optimizer holds the weights, and
            # Python never frees a circle that leads through a hook.
            hook = functools.partial(update, state, group)
            weight.register_post_accumulate_grad_hook(hook)


def with_masters(model, recipe, tensors, seed):
    """Return the optimizer of a model's bf16 weights, with masters from `fill_masters`."""
    optimizer = SplitAdamW(model.parameters(), (recipe.beta1, recipe.beta2))
    fill_masters(optimizer, model, tensors, seed)
    return optimizer


@torch.no_grad()
def update(state, group, weight):
    """Step one parameter and free its gradient; PyTorch calls this when it is complete."""
    step = state["step"].add_(1).item()
    beta1, beta2 = group["betas"]
    tensors = [weight, weight.grad, state["rest"], state["m"], state["v"]]
    for upper, gradient, rest, m, v in pieces(*tensors):
        # AdamW, each line as PyTorch computes it.
        gradient = gradient.float()
        first = m.float().lerp_(gradient, 1 - beta1)  # beta1 m + (1 - beta1) g
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # beta2 v + (1 - beta2) g²
        scale = v.sqrt().div_((1 - beta2**step) ** 0.5).add_(1e-8)
        master = join(upper, rest)
        master.addcdiv_(first, scale, value=-group["lr"] / (1 - beta1**step))

        # Back to where it is kept.
        new_upper, new_rest = split(master)
        upper.copy_(new_upper)
        rest.copy_(new_rest)
        m.copy_(first)
    weight.grad = None


@torch.no_grad()
def fill_masters(optimizer, model, tensors, seed):
    """Set weights and rests from `tensors`, pairs (name, tensor) as a checkpoint's file holds them.

    A master becomes the file's number exactly. A tensor whose numbers are all bf16 numbers has no
    rest to keep, whether its file is bf16 or was made from one: there the rest is drawn at random,
    so that the rounded weights are the file's. The same seed and file give the same rests. Names
    that are no parameter of the model's are skipped: a tied head's.
    """
    parameters = dict(model.named_parameters())
    generator = torch.Generator(model.lm_head.weight.device).manual_seed(seed)
    for name, tensor in tensors:
        if name in parameters:
            weight = parameters[name]
            rest = optimizer.state[weight]["rest"]
            for upper, lower, numbers in pieces(weight, rest, tensor):
                new_upper, new_lower = split(numbers.to(weight.device).float())
                upper.copy_(new_upper)
                lower.copy_(new_lower)
            if not rest.any():
                rest.random_(-0x8000, 0x8000, generator=generator)
                rest.masked_fill_(weight == 0, 0)  # below the bits of zero lie those of NaN


def loss_in_pieces(head, loss, states, targets, positions, aligned_log_probs):
    """Return the summed loss of N answer tokens from the states (N, D) before them.

    With a large vocabulary the logits of a whole batch would be the largest tensor of a step. Here
    they are computed a piece at a time, and in backward once more; the gradients are the same. With
    aligned log-probs of the first positions only, all answer tokens are one piece.
    """
    whole = aligned_log_probs is not None and len(aligned_log_probs) != len(targets)
    size = len(targets) if whole else ANSWER_PIECE

    def loss_from(first):
        piece = slice(first, first + size)
        of_aligned = None if aligned_log_probs is None else aligned_log_probs[piece]
        return loss(head(states[piece]), targets[piece], positions[piece], of_aligned)

    options = {"use_reentrant": False, "preserve_rng_state": False}
    return sum(checkpoint(loss_from, first, **options) for first in range(0, len(targets), size))


def take_step(model, optimizer, batch, token_budget, loss):
    """Train the model on a batch of examples; return its mean loss, in nats an answer token.

    As `training.take_step`, for a SplitAdamW, which steps each weight inside backward. The usual
    way, a backward for each micro-batch, completes no gradient before the last one. Here the
    micro-batches go through the blocks side by side. So in backward all of them are through a block
    before any goes on to the one below: its gradients are complete, and each is used and freed at
    once. With `recompute` only each block's inputs are kept for it.
    """
    device = model.lm_head.weight.device
    padded = [pad(micro_batch, device) for micro_batch in micro_batches(batch, token_budget)]
    streams = [list(model.embed(tokens)) for tokens, _, _ in padded]  # [x, cos, sin] each

    # All micro-batches pass a block, then all the next.
    for block in model.model.layers:
        for stream in streams:
            stream[0] = model.run_block(block, *stream)  # (B, T, D)

    # One head and one loss for the answer tokens of all.
    selected = []
    for (x, _, _), (tokens, loss_mask, _) in zip(streams, padded):
        selected.append(select_answers(model.model.norm(x), tokens, loss_mask))
    states, targets, positions = (torch.cat(parts) for parts in zip(*selected))
    log_probs = [of_aligned for _, _, of_aligned in padded]
    aligned_log_probs = None if log_probs[0] is None else torch.cat(log_probs)
    total = loss_in_pieces(model.lm_head, loss, states, targets, positions, aligned_log_probs)

    # Backward; every weight is stepped on the way.
    mean = total / len(targets)
    mean.backward()
    return mean.item()
