"""Chapter 4: logits equal transformers' Llama, and padding changes nothing."""

import pytest
import torch
from conftest import tiny

CASES = [{}, {"kv_heads": 4}, {"kv_heads": 1, "tied": True}, {"layers": 3, "vocab_size": 50}]


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case):
    transformers = pytest.importorskip("transformers")
    model = tiny(**case)
    fields = model.config._asdict()
    peer = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields)).eval()
    missing = peer.load_state_dict(model.state_dict(), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    tokens = torch.randint(0, model.config.vocab_size, (4, 19))
    mask = torch.arange(19) < torch.tensor([[19], [11], [3], [1]])
    with torch.no_grad():
        theirs = peer(tokens, attention_mask=mask.long()).logits
        ours = model(tokens)
    assert ours.shape == (4, 19, model.config.vocab_size)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-4, rtol=0)


def test_what_stands_right_of_a_row_does_not_matter():
    model = tiny()
    tokens = torch.randint(1, 97, (3, 12))
    other = tokens.clone()
    other[:, 7:] = 0
    torch.testing.assert_close(model(tokens)[:, :7], model(other)[:, :7])


def test_a_tied_head_is_one_parameter():
    model = tiny(tied=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) + 97 * 32 == sum(
        p.numel() for p in tiny().parameters()
    )
