"""config.json: each spelling of a setting gives transformers' logits, or one sentence."""

import contextlib
import json

import pytest
from test_model import LLAMA3, assert_equal_logits, random_model

from lookahead.cli import InputError
from lookahead.files.config import COMMON, COMPUTED, check_end, read_config

FIELDS = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
FIELDS |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
HUNDRED = {"rope_theta": 100.0}
SCALED = {**LLAMA3, "rope_type": "llama3"}
SHORT = {name: value for name, value in SCALED.items() if not name.startswith("original")}
SPELLINGS = [
    ("llama", {"attention_bias": False, "tie_word_embeddings": True}),
    ("llama", {"rope_theta": 100}),
    ("llama", {"rope_parameters": HUNDRED | {"rope_type": "default"}}),
    ("llama", {"rope_parameters": HUNDRED, "rope_theta": 5.0}),
    ("llama", {"rope_parameters": {"type": "default"}, "rope_theta": 100.0}),
    ("llama", {"rope_scaling": {"rope_type": "default"}, "rope_theta": 100.0}),
    ("llama", {"rope_scaling": {"type": "default"}, "rope_parameters": HUNDRED}),
    ("llama", {"rope_scaling": {"rope_theta": 9.0}, "rope_parameters": HUNDRED}),
    ("llama", {"rope_scaling": None, "rope_parameters": HUNDRED | SCALED}),
    ("llama", {"rope_scaling": {}, "rope_parameters": {**LLAMA3, **HUNDRED, "type": "llama3"}}),
    ("llama", {"rope_scaling": {"type": "linear", **SCALED}, "rope_theta": 100.0}),
    ("llama", {"rope_parameters": SHORT}),
    ("llama", {"num_key_value_heads": None, "head_dim": 16}),
    ("mistral", {"sliding_window": None, "head_dim": None}),
    ("mistral", {"sliding_window": 100, "rms_norm_eps": 0.01}),
    ("mistral", {"num_attention_heads": 8, "head_dim": 4, "num_key_value_heads": ...}),
    ("qwen2", {"sliding_window": 4, "use_sliding_window": False, "max_window_layers": 0}),
    ("qwen2", {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 0}),
    ("qwen2", {"attention_bias": False, "layer_types": ["full_attention"] * 2}),
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


@pytest.mark.parametrize(
    "kind, window, context",
    [
        ("mistral", {}, 4096),
        ("mistral", {"use_sliding_window": False}, 4096),
        ("mistral", {"sliding_window": None}, 32768),
        ("mistral", {"sliding_window": 50_000}, 32768),
        ("qwen3", {"sliding_window": 512}, 32768),
        ("qwen2", {"use_sliding_window": True}, 4096),
    ],
)
def test_a_sliding_window_shortens_the_context(write, kind, window, context):
    config = read_config(write(kind, {"max_position_embeddings": 32768} | window))
    assert config.max_position_embeddings == context


@pytest.mark.parametrize("field", [*FIELDS, *COMMON, *COMPUTED, "model_type"])
@pytest.mark.parametrize("value", ["x", 10**400, [1]])
def test_a_value_without_sense_is_rejected_by_name(write, field, value):
    path = write("llama", {field: value})
    with pytest.raises(InputError, match=f"config.json: {field} .*not supported"):
        read_config(path)


@pytest.mark.parametrize(
    "kind, field, value",
    [
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("qwen2", "rope_scaling", {"rope_type": "yarn", "type": "default"}),
        ("llama", "rope_parameters", {"type": "dynamic", "factor": 2.0}),
        ("qwen3", "rope_parameters", {"full_attention": {"rope_theta": 5.0}}),
        ("llama", "rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("qwen3", "attention_bias", True),
        ("qwen3", "layer_types", ["full_attention", "sliding_attention"]),
        ("llama", "vocab_size", ...),
        ("llama", "head_dim", 7),
        ("llama", "num_key_value_heads", 3),
        ("llama", "num_hidden_layers", 10**5),
        ("llama", "rope_scaling", SCALED | {"low_freq_factor": 4.0}),
    ],
)
def test_what_the_model_does_not_compute_is_rejected_by_name(write, kind, field, value):
    path = write(kind, {field: value})
    with pytest.raises(InputError, match=f"config.json: {field} .*not supported"):
        read_config(path)


class Tokenizer:
    special = {"</s>": 2, "<|end_of_text|>": 128001, "<|eot_id|>": 128009, "<|im_end|>": 151645}.get


@pytest.mark.parametrize(
    "end, config, generation, token, wrong",
    [
        ("</s>", 2, None, {"content": "</s>"}, False),  # Llama-2
        ("<|eot_id|>", [128001, 128008, 128009], None, None, False),  # Llama-3.1
        ("<|eot_id|>", 128001, [128001, 128009], None, False),  # Llama-3, the first files
        ("<|im_end|>", 151645, [151645, 151643], "<|im_end|>", False),  # Qwen2.5
        ("<|im_end|>", None, None, None, False),
        ("</s>", 151645, [151645, 151643], "<|im_end|>", True),
        ("<|im_end|>", 151643, None, "<|im_end|>", True),
        ("<|eot_id|>", 128001, [128001, 128009], "<|end_of_text|>", False),  # as first published
        ("<|eot_id|>", 128009, [], "<|end_of_text|>", False),
        ("<|eot_id|>", 128001, None, "<|end_of_text|>", True),
        ("<|im_end|>", [None], None, {"content": "<|other|>"}, True),
        ("<|im_end|>", "151645", None, None, True),
    ],
)
def test_the_template_ends_where_the_model_ends(write, end, config, generation, token, wrong):
    folder = write("llama", {"eos_token_id": config}).parent
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    sentence = pytest.raises(InputError, match="ends a turn .*give the --template")
    with sentence if wrong else contextlib.nullcontext():
        ids = check_end(folder, Tokenizer, end)
    if not wrong:
        generation = generation or []
        assert ids == {*(config if isinstance(config, list) else [config]), *generation} - {None}


def test_an_adapter_is_rejected(write):
    path = write("llama", {})
    (path.parent / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds an adapter_config.json; merge"):
        read_config(path)
