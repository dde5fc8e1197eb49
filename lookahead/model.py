"""Chapter 4. The model: Llama in plain PyTorch.

A decoder of identical blocks: RMSNorm, causal self-attention with rotary positions (RoPE) and
grouped queries, RMSNorm, SwiGLU. Parameter names are those of Hugging Face's Llama, so weights load
without a mapping. `Llama(config)(tokens)` always returns logits (B, T, V); training, which needs
them only at answer positions, calls `hidden` and applies `lm_head` to what it selects. The cache of
decoding is in `generate.py`. Left out: dropout, biases, RoPE scaling, sliding windows.

Shapes: B batch, T time, D width, H query heads, K key/value heads, E width of a head, V vocabulary,
S slots of the cache.
"""

import functools
import typing

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Config(typing.NamedTuple):
    """The fields of a Hugging Face Llama `config.json` that this model uses, under their names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False

    @property
    def head_dim(self):
        return self.hidden_size // self.num_attention_heads


def _rotary_angles(config, positions):
    """Return cos and sin, (B, 1, T, E) each, for integer positions (B, T).

    Features i and i + E/2 of a head, a pair in Hugging Face's layout, are turned by position *
    theta^(-2i/E); hence the angles are repeated rather than interleaved.
    """
    exponents = torch.arange(0, config.head_dim, 2, device=positions.device) / config.head_dim
    angles = positions.float()[..., None] * config.rope_theta**-exponents  # (B, T, E/2)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def _rotate(x, cos, sin):
    """Turn queries or keys x (B, H, T, E) by the angles of their positions."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)  # Hugging Face's rotate_half
    return x * cos + turned * sin


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, cos, sin, cache):
        B, T, D = x.shape
        q = self.q_proj(x).view(B, T, -1, self.config.head_dim).transpose(1, 2)  # (B, H, T, E)
        k = self.k_proj(x).view(B, T, -1, self.config.head_dim).transpose(1, 2)  # (B, K, T, E)
        v = self.v_proj(x).view(B, T, -1, self.config.head_dim).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        mask = None
        if cache is not None:
            k, v = cache.write(self.layer, k, v)  # (B, K, S, E)
            mask = cache.mask
        grouped = k.size(1) != q.size(1)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
        )
        return self.o_proj(y.transpose(1, 2).reshape(B, T, D))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x, cos, sin, cache):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.recompute = False  # each block in backward, keeping only its input: less memory
        self.model = nn.ModuleDict({  # all but the head: checkpoint names start with `model.`
            "embed_tokens": nn.Embedding(config.vocab_size, config.hidden_size),
            "layers": nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers)),
            "norm": nn.RMSNorm(config.hidden_size, config.rms_norm_eps),
        })  # fmt: skip
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:  # the gains of RMSNorm stay at one
                nn.init.normal_(parameter, std=0.02)

    def hidden(self, parts, cache=None):
        """Return the final hidden states (B, T, D) of each part, tokens (B, T), before the head.

        Rows are padded on the right and attention is causal, so no real token attends to a later
        pad, and no mask is needed. The parts go through the blocks side by side: in backward a
        block's gradients from all of them are complete before those of the block below begin, and
        can be used and freed at once. In decoding there is one part, and a cache that knows the
        positions of its tokens and, after the first pass, masks what lies behind them.
        """
        states, angles = [], []
        for tokens in parts:
            positions = torch.arange(tokens.size(1), device=tokens.device)[None]
            cos_sin = _rotary_angles(self.config, cache.positions if cache else positions)
            states.append(self.model.embed_tokens(tokens))
            angles.append([x.to(states[-1].dtype) for x in cos_sin])
        for block in self.model.layers:
            if self.recompute:
                once_more = {"use_reentrant": False, "preserve_rng_state": False}
                block = functools.partial(checkpoint, block, **once_more)
            states = [block(x, *angle, cache) for x, angle in zip(states, angles)]
        return [self.model.norm(x) for x in states]

    def forward(self, tokens):
        """Return logits (B, T, V) of tokens (B, T); those at t score the token at t + 1."""
        return self.lm_head(self.hidden([tokens])[0])
