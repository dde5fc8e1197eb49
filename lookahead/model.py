"""Chapter 4. The model: Llama in plain PyTorch, and its relatives Mistral, Qwen2 and Qwen3.

A decoder of identical blocks: RMSNorm, causal self-attention with rotary positions (RoPE) and
grouped queries, RMSNorm, SwiGLU. Parameter names are those of Hugging Face's models, so weights
load without a mapping. `Llama(config)(tokens)` always returns logits (B, T, V); training, which
needs them only at answer positions, calls `hidden` and applies `lm_head` to what it selects. The
cache of decoding is in `generate.py`. Left out: dropout, sliding windows, mixtures of experts.

Shapes: B batch, T time, D width, H query heads, K key/value heads, E width of a head, V vocabulary,
S slots of the cache.
"""

import math
import typing

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# cuDNN's attention plans anew for every shape, and here nearly every batch has a new one.
torch.backends.cuda.enable_cudnn_sdp(False)


class Config(typing.NamedTuple):
    """The fields of a Hugging Face `config.json` that this model uses, under their names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None  # Llama-3's: see `rotary_frequencies`
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    attention_bias: bool = False  # of queries, keys and values: Qwen2
    qk_norm: bool = False  # RMSNorm of each query and key: Qwen3


def rotary_frequencies(config, device=None):
    """Return the angle that each pair of features turns from one position to the next, (E/2,).

    theta^(-2i/E) for pair i. Llama-3 stretches the slow ones: waves longer than the context of
    pre-training by `factor`, waves shorter than a part of it not at all, those between gradually.
    """
    # A geometric series: the first pair turns fastest.
    exponents = torch.arange(0, config.head_dim, 2, device=device) / config.head_dim
    frequencies = config.rope_theta**-exponents
    if config.rope_scaling is None:
        return frequencies

    # How many waves of each pair fit into the context of pre-training says what is stretched.
    scaling = config.rope_scaling
    low = scaling["low_freq_factor"]
    high = scaling["high_freq_factor"]
    waves = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    share = ((waves - low) / (high - low)).clamp(0, 1)  # of the frequency that stays as it is
    return share * frequencies + (1 - share) * frequencies / scaling["factor"]


def rotate(x, cos, sin):
    """Turn queries or keys x (B, H, T, E) by the angles of their positions.

    Features i and i + E/2 of a head are a pair, as in Hugging Face's layout.
    """
    first, second = x.chunk(2, dim=-1)
    quarter_turn = torch.cat([-second, first], dim=-1)
    return x * cos + quarter_turn * sin


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config = config
        self.layer = layer  # which one, for the cache

        # Fewer heads of keys and values than of queries save memory in decoding.
        width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        bias = config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=bias)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x, cos, sin, cache):
        # Each token has a query, a key and a value.
        B, T, _ = x.shape
        q = self.q_proj(x).view(B, T, -1, self.config.head_dim)  # (B, T, H, E)
        k = self.k_proj(x).view(B, T, -1, self.config.head_dim)  # (B, T, K, E)
        v = self.v_proj(x).view(B, T, -1, self.config.head_dim).transpose(1, 2)  # (B, K, T, E)
        if self.config.qk_norm:
            q = self.q_norm(q)
            k = self.k_norm(k)

        # After rotation, products of queries and keys depend on how far apart their tokens are.
        q = rotate(q.transpose(1, 2), cos, sin)  # (B, H, T, E)
        k = rotate(k.transpose(1, 2), cos, sin)  # (B, K, T, E)

        # In decoding keys and values of earlier tokens come from the cache.
        if cache is not None:
            k, v = cache.write(self.layer, k, v)  # (B, K, S, E)
        if cache is None or cache.mask is None:
            # A token attends to itself and what lies before it.
            grouped = k.size(1) != q.size(1)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        else:
            # One token a row: the queries that share a key stand where the time would be, as
            # PyTorch's fast kernels take no mask together with groups.
            q = q.reshape(B, k.size(1), -1, self.config.head_dim)  # (B, K, H/K, E)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=cache.mask)
            y = y.reshape(B, -1, T, self.config.head_dim)  # (B, H, T, E)

        # The values that all heads attended to, mixed into one state.
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, D)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        # SwiGLU: one projection gates the other.
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        # Both halves see normalised states.
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x, cos, sin, cache):
        # Each half adds its output to the stream of states.
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

        # Small models use one matrix to read words and to score them.
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

        # Random weights, until a checkpoint's are loaded.
        for parameter in self.parameters():
            if parameter.dim() == 2:  # the gains of RMSNorm stay at one
                nn.init.normal_(parameter, std=0.02)

    def embed(self, tokens, positions=None):
        """Return states (B, T, D) and the cos and sin (B, 1, T, E) of their positions."""
        # Positions count from 0 in every row, as the padding stands at the end.
        x = self.model.embed_tokens(tokens)
        if positions is None:
            positions = torch.arange(tokens.size(1), device=tokens.device)[None]  # (1, T)

        # An angle for each position and pair; both features of a pair turn by it.
        angles = positions.float()[..., None] * rotary_frequencies(self.config, tokens.device)
        angles = torch.cat([angles, angles], dim=-1)[:, None]  # (B, 1, T, E)
        return x, angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    def run_block(self, block, x, cos, sin, cache=None):
        """Return a block's output; with `recompute` only its input is kept for backward."""
        # Backward runs the block once more, so its inner states need not be kept.
        if self.recompute and torch.is_grad_enabled():
            options = {"use_reentrant": False, "preserve_rng_state": False}
            return checkpoint(block, x, cos, sin, cache, **options)
        return block(x, cos, sin, cache)

    def hidden(self, tokens, cache=None):
        """Return the final hidden states (B, T, D) of tokens (B, T), before the head.

        Examples are padded on the right and attention is causal, so no real token attends to a
        later pad, and no mask is needed. In decoding the cache knows the positions of the tokens
        and, after the first pass, masks what lies after them.
        """
        # The stream of states runs through the blocks; positions are the same in all of them.
        x, cos, sin = self.embed(tokens, cache.positions if cache else None)
        for block in self.model.layers:
            x = self.run_block(block, x, cos, sin, cache)
        return self.model.norm(x)

    def forward(self, tokens):
        """Return logits (B, T, V) of tokens (B, T); those at t score the token at t + 1."""
        # For all positions: training and decoding call `hidden` and score what they need.
        return self.lm_head(self.hidden(tokens))
