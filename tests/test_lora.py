"""LoRA: zero at first, only adapters are trained, merging changes no logit, rounding is told."""

import pytest
import torch
from conftest import tiny
from lookahead.lora import SCALE, LoRALinear, add_lora, linear_layers, merge_lora

TOKENS = torch.arange(5, 17)[None]


@pytest.fixture
def adapted():
    model = tiny()
    add_lora(model, 4, seed=0)
    return model


def test_it_starts_as_the_seed_model_and_trains_adapters_only(adapted):
    assert torch.equal(adapted(TOKENS), tiny()(TOKENS))
    names = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert len(names) == 2 * 7 * 2 and all(name[-2:] in (".A", ".B") for name in names)
    adapted(TOKENS).sum().backward()
    grown = [name for name, weight in adapted.named_parameters() if weight.grad is not None]
    assert sorted(grown) == sorted(names)


def test_the_formula():
    linear = torch.nn.Linear(6, 5, bias=False)
    layer = LoRALinear(linear, 3)
    torch.nn.init.normal_(layer.B)
    x = torch.randn(2, 6)
    expected = x @ (linear.weight + SCALE * layer.B @ layer.A).T
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_merging_changes_no_logit_and_leaves_no_trace(adapted, dtype, most):
    adapted.to(dtype)
    for _, _, layer in linear_layers(adapted):
        layer.float()
        layer.linear.to(dtype)
        torch.nn.init.normal_(layer.B, std=0.02)
    with torch.no_grad():
        before = adapted(TOKENS).float()
        lost = merge_lora(adapted)
        torch.testing.assert_close(adapted(TOKENS).float(), before, atol=most, rtol=0)
    assert adapted.state_dict().keys() == tiny().state_dict().keys()
    assert all(weight.requires_grad for weight in adapted.parameters())
    assert lost == 0 if dtype == torch.float32 else 0 < lost < most


def test_an_update_below_the_weights_precision_is_told():
    model = tiny().bfloat16()
    add_lora(model, 4, seed=0)
    for _, _, layer in linear_layers(model):
        torch.nn.init.constant_(layer.B, 1e-6)
    assert merge_lora(model) > 0.5
    model = tiny()
    add_lora(model, 4, seed=0)
    assert merge_lora(model) == 0.0  # nothing was learned, nothing is lost
