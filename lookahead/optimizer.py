"""The hyperparameters of a run, the learning-rate schedule and AdamW, also over bfloat16 weights.

The paper's code trains without weight decay and lets the rate fall linearly to zero, without
warm-up. Float32 weights are stepped by PyTorch's AdamW. A large model has bfloat16 weights, most of
them too coarse, with 8 bits of precision, to take a step of 2e-5 at all: `SplitAdamW` keeps, beside
each, the bits that were rounded away. Left out: gradient clipping, which the paper's code asks for
and probably does not apply (and which needs all gradients at once).
"""

import math
import typing
import weakref

import torch


class Recipe(typing.NamedTuple):
    """The hyperparameters that all methods of a comparison share. The defaults are the paper's."""

    epochs: int = 3
    batch_size: int = 64
    lr: float = 2e-5
    schedule: str = "linear"  # or "cosine"; both fall to zero
    beta1: float = 0.5  # hard-coded in the paper's code
    beta2: float = 0.999
    max_length: int = 512  # tokens of prompt and answer; a longer example is left out
    lora: int = 0  # rank of the adapters; 0 trains all parameters, as the paper does


def learning_rate(recipe, step, steps):
    """Return the rate of a step, counted from 1, on its way from `lr` to zero.

    >>> [learning_rate(Recipe(lr=1.0), step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    done = (step - 1) / steps
    share = 1 - done if recipe.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return recipe.lr * share


def adamw(model, recipe):
    """Return AdamW over the trainable parameters: PyTorch's, or `SplitAdamW` for bfloat16 ones."""
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    betas = (recipe.beta1, recipe.beta2)
    if parameters[0].dtype == torch.bfloat16:
        return SplitAdamW(parameters, betas)
    return torch.optim.AdamW(parameters, betas=betas, weight_decay=0.0, fused=True)


def split(master):
    """Return float32 numbers as bfloat16, rounded to nearest, and the int16 rest of their bits.

    >>> weight, rest = split(torch.tensor([1.0, 1.003]))
    >>> weight.tolist(), rest.tolist()
    ([1.0, 1.0], [0, 25166])
    """
    bits = master.view(torch.int32)
    upper = (bits + 0x8000) >> 16  # half a bfloat16 step added: rounds to nearest, halves away
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << 16)).to(torch.int16)


def join(weight, rest):
    """Return the float32 numbers that `split` took apart, bit for bit.

    >>> join(*split(torch.tensor([1.0, 1.003]))).tolist() == torch.tensor([1.0, 1.003]).tolist()
    True
    """
    return ((weight.view(torch.int16).int() << 16) + rest.int()).view(torch.float32)


class SplitAdamW:
    """AdamW over bfloat16 weights with an exact float32 master, stepped inside backward.

    A bfloat16 is the upper half of a float32. Weight and rest together are the float32 *master*
    weight: joined, stepped, and split again, 10 bytes a parameter with the moments, where float32
    training takes 16. Each parameter steps as soon as its gradient is complete, and the gradient is
    freed: never are all in memory. So there must be one backward a step, over the whole batch
    (`Llama.hidden`). With a first moment of dtype torch.float32 (`moment`) the masters follow
    torch.optim.AdamW bit for bit.
    """

    def __init__(self, parameters, betas, moment=torch.bfloat16):
        self.betas = betas
        self.param_groups = [{"lr": 0.0}]  # where the training loop sets the rate, as in PyTorch
        self.state = {}  # as in PyTorch: {weight: {name: tensor}}
        me = weakref.ref(self)  # a hook that held the optimizer would keep both alive for ever
        for weight in parameters:
            dtypes = {"rest": torch.int16, "m": moment, "v": torch.float32}
            zeros = {name: torch.zeros_like(weight, dtype=dtypes[name]) for name in dtypes}
            self.state[weight] = {"step": torch.zeros(()), **zeros}
            weight.register_post_accumulate_grad_hook(lambda weight: me() and me().update(weight))

    @torch.no_grad()
    def update(self, weight):
        """Step one parameter; PyTorch calls this when its gradient is complete."""
        self.state[weight]["step"] += 1
        step, rest, m, v = self.state[weight].values()
        (beta1, beta2), gradient, step = self.betas, weight.grad.float(), int(step)
        first = m.float().lerp_(gradient, 1 - beta1)  # beta1 m + (1 - beta1) g
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (v.sqrt() / math.sqrt(1 - beta2**step)).add_(1e-8)
        master = join(weight, rest)
        master.addcdiv_(first, scale, value=-self.param_groups[0]["lr"] / (1 - beta1**step))
        upper, lower = split(master)
        weight.copy_(upper)
        rest.copy_(lower)
        m.copy_(first)
        weight.grad = None

    def step(self):
        """Nothing is left to do after backward."""

    def zero_grad(self):
        """Gradients were freed inside backward."""
