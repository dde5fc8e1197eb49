"""LoRA (arXiv 2106.09685): train a low-rank update of each linear layer, then merge it.

    y = W x + (SCALE * B) A x        A (rank, in), B (out, rank), B zero at first

W is frozen, so there are gradients and moments for A and B only: a 7B model fits a 24 GB card. A
and B are fp32 and multiply in W's dtype. All linear layers of the blocks get one, the head and the
embeddings do not. After training W becomes W + SCALE * B A, and nothing downstream knows. Left out:
dropout, ranks that differ from layer to layer.
"""

import torch
import torch.nn.functional as F
from torch import nn

from lookahead.one_gpu.halves import round_at_random

SCALE = 2.0  # alpha / rank


class LoRALinear(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear
        device = linear.weight.device
        A = torch.randn(rank, linear.in_features, device=device) / linear.in_features**0.5
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def forward(self, x):
        low = F.linear(x, self.A.to(x.dtype))  # (..., rank)
        return self.linear(x) + F.linear(low, (SCALE * self.B).to(x.dtype))


def add_lora(model, rank, seed):
    """Freeze the model and put adapters on its linear layers; `seed` draws the A's."""
    torch.manual_seed(seed)
    model.requires_grad_(False)
    blocks = model.model.layers
    for name, layer in list(blocks.named_modules()):
        if isinstance(layer, nn.Linear):
            blocks.set_submodule(name, LoRALinear(layer, rank))


@torch.no_grad()
def merge_lora(model, seed):
    """Add the updates to the weights and take the adapters off; `seed` is of the rounding to bf16.

    Most updates are smaller than half a step of a bf16 weight. Rounded to nearest they would be
    lost in all weights alike; rounded at random each weight is off by up to a step, as any rounding
    is, but their mean is kept, and with it what the sums in the next forward pass see.
    """
    generator = torch.Generator(model.lm_head.weight.device).manual_seed(seed)
    blocks = model.model.layers
    for name, layer in list(blocks.named_modules()):
        if isinstance(layer, LoRALinear):
            weight = layer.linear.weight
            merged = weight + SCALE * layer.B @ layer.A  # (out, in), in fp32
            if weight.dtype == torch.bfloat16:
                merged = round_at_random(merged, generator)
            weight.copy_(merged)
            blocks.set_submodule(name, layer.linear)
    model.requires_grad_(True)
