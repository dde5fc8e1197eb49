"""Chapter 4: logits equal transformers' for every shape of model."""

import pytest
import torch
from conftest import random_model

from lookahead.files.checkpoint import describe
from lookahead.model import Config

BASE = Config(97, 32, 48, 2, 4, 2, 8, 128)
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 32
SHAPES = {
    "llama": BASE._replace(num_key_value_heads=4),
    "llama, grouped": BASE._replace(rope_theta=500.0, rms_norm_eps=1e-3),
    "llama, tied, one key": BASE._replace(num_key_value_heads=1, tie_word_embeddings=True),
    "llama 3": BASE._replace(rope_scaling=LLAMA3),
    "qwen2": BASE._replace(attention_bias=True, rope_theta=1e6),
    "qwen3": BASE._replace(qk_norm=True, head_dim=16, tie_word_embeddings=True),
}


def peer_of(model, config=None):
    """Return transformers' model with our weights, by our configuration or by its own."""
    transformers = pytest.importorskip("transformers")
    config = config or transformers.AutoConfig.for_model(**describe(model.config))
    peer = transformers.AutoModelForCausalLM.from_config(config).eval()
    peer.load_state_dict(model.state_dict(), strict=True)
    return peer


def assert_equal_logits(model, peer_config=None):
    tokens = torch.randint(model.config.vocab_size, (3, 100))
    mask = torch.arange(100) < torch.tensor([[100], [61], [1]])
    with torch.no_grad():
        ours = model(tokens)
        theirs = peer_of(model, peer_config)(tokens, attention_mask=mask.long()).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers(shape):
    assert_equal_logits(random_model(SHAPES[shape]))
