"""LoRA (arXiv 2106.09685): train a low-rank update of each linear layer, then merge it.

    y = W x + SCALE * B A x        A (rank, in), B (out, rank), B zero at first

W is frozen, so there are gradients and moments for A and B only: a 7B model fits a 24 GB card. A
and B are float32 and multiply in W's dtype. All linear layers of the blocks get one, the head and
the embeddings do not. After training W becomes W + SCALE * B A, and nothing downstream knows. Left
out: dropout, ranks that differ from layer to layer.
"""

import torch
import torch.nn.functional as F
from torch import nn

SCALE = 2.0  # alpha / rank


class LoRALinear(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.linear = linear
        (out_width, in_width), device = linear.weight.shape, linear.weight.device
        self.A = nn.Parameter(torch.randn(rank, in_width, device=device) / in_width**0.5)
        self.B = nn.Parameter(torch.zeros(out_width, rank, device=device))

    def forward(self, x):
        low = F.linear(F.linear(x, self.A.to(x.dtype)), self.B.to(x.dtype))
        return self.linear(x) + SCALE * low


def linear_layers(model):
    """Yield (parent, name, layer) of every linear layer of the blocks, wrapped or not."""
    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, layer in list(parent.named_children()):
                yield parent, name, layer


def add_lora(model, rank, seed):
    """Freeze the model and put adapters on its linear layers; `seed` draws the A's."""
    torch.manual_seed(seed)
    model.requires_grad_(False)
    for parent, name, layer in linear_layers(model):
        setattr(parent, name, LoRALinear(layer, rank))


@torch.no_grad()
def merge_lora(model):
    """Add the updates to the weights and take the adapters off; return what rounding took.

    Bfloat16 weights are coarse: an update smaller than half their step is lost. The figure is the
    norm of the difference between wanted and stored updates, over the norm of the wanted ones.
    """
    wanted = missed = 0.0
    for parent, name, layer in linear_layers(model):
        weight, update = layer.linear.weight, SCALE * layer.B @ layer.A
        merged = weight + update  # in float32
        weight.copy_(merged)
        wanted += update.square().sum().item()
        missed += (weight - merged).square().sum().item()
        setattr(parent, name, layer.linear)
    model.requires_grad_(True)
    return (missed / wanted) ** 0.5 if wanted else 0.0
