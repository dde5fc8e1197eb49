"""config.json: each spelling of a setting gives transformers' logits, or one sentence."""

import contextlib
import json

import pytest
from conftest import random_model
from test_model import LLAMA3, assert_equal_logits

from lookahead.cli import InputError
from lookahead.files.config import COMMON, COMPUTED, check_end, read_config

FIELDS = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
FIELDS |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
HUNDRED = {"rope_theta": 100.0}
SCALED = {**LLAMA3, "rope_type": "llama3"}
SHORT = {name: value for name, value in SCALED.items() if not name.startswith("original")}
SPELLINGS = [
    ("llama", {"rope_parameters": HUNDRED, "rope_theta": 5.0}),
    ("llama", {"rope_parameters": {"type": "default"}, "rope_theta": 100.0}),
    ("llama", {"rope_scaling": {}, "rope_parameters": {**LLAMA3, **HUNDRED, "type": "llama3"}}),
    ("llama", {"rope_scaling": {"type": "linear", **SCALED}, "rope_theta": 100.0}),
    ("llama", {"rope_parameters": SHORT}),
    ("llama", {"num_key_value_heads": None, "head_dim": 16}),
    ("mistral", {"sliding_window": None, "head_dim": None}),
    ("mistral", {"num_attention_heads": 8, "head_dim": 4, "num_key_value_heads": ...}),
    ("qwen2", {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 0}),
    ("qwen3", {"rope_parameters": SCALED, "rope_theta": 100.0}),
]


@pytest.fixture
def write(tmp_path):
    """Write config.json; a field that is ... is absent."""

    def write_fields(kind, changes):
        fields = FIELDS | {"model_type": kind} | changes
        fields = {name: value for name, value in fields.items() if value is not ...}
        (tmp_path / "config.json").write_text(json.dumps(fields))
        return tmp_path / "config.json"

    return write_fields


@pytest.mark.parametrize("kind, changes", SPELLINGS)
def test_spellings(write, kind, changes):
    transformers = pytest.importorskip("transformers")
    path = write(kind, changes)
    model = random_model(read_config(path))
    assert_equal_logits(model, transformers.AutoConfig.from_pretrained(path.parent))


@pytest.mark.parametrize("kind, window, context", [
    ("mistral", {}, 4096),
    ("qwen3", {"sliding_window": 512}, 32768),
])  # fmt: skip
def test_a_sliding_window_shortens_the_context(write, kind, window, context):
    config = read_config(write(kind, {"max_position_embeddings": 32768} | window))
    assert config.max_position_embeddings == context


@pytest.mark.parametrize("kind, field, value", [
    *[("llama", field, "x") for field in [*FIELDS, *COMMON, *COMPUTED, "model_type"]],
    ("qwen3", "rope_parameters", {"full_attention": {"rope_theta": 5.0}}),
    ("qwen3", "attention_bias", True),
    ("qwen3", "layer_types", ["full_attention", "sliding_attention"]),
    ("llama", "vocab_size", ...),
    ("llama", "head_dim", 7),
    ("llama", "num_key_value_heads", 3),
    ("llama", "rope_scaling", SCALED | {"low_freq_factor": 4.0}),
])  # fmt: skip
def test_what_the_model_does_not_compute_is_rejected_by_name(write, kind, field, value):
    path = write(kind, {field: value})
    with pytest.raises(InputError, match=f"config.json: {field} .*not supported"):
        read_config(path)


class Tokenizer:
    special = {"</s>": 2, "<|end_of_text|>": 128001, "<|eot_id|>": 128009, "<|im_end|>": 151645}.get


@pytest.mark.parametrize("end, config, generation, token, wrong", [
    ("<|eot_id|>", 128001, [128001, 128009], None, False),  # Llama-3, the first files
    ("<|eot_id|>", 128001, None, "<|end_of_text|>", True),
    ("<|im_end|>", "151645", None, None, True),
])  # fmt: skip
def test_the_template_ends_where_the_model_ends(write, end, config, generation, token, wrong):
    folder = write("llama", {"eos_token_id": config}).parent
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    sentence = pytest.raises(InputError, match="ends a turn .*give the --template")
    with sentence if wrong else contextlib.nullcontext():
        assert check_end(folder, Tokenizer, end) == {128001, 128009}
