"""Configurations: a Hugging Face `config.json` becomes the Config of the model.

Four model types are read: llama, mistral, qwen2 and qwen3. A setting means what transformers takes
it for, however it is spelled, and an absent one has its default there; what the model does not
compute is rejected by name before a weight is touched. A sliding window shortens the context to
itself, for within it attention is full. What a model directory says of the end of a turn is
compared with the template's. Left out: other types, RoPE scaling other than Llama-3's, adapters.
"""

from lookahead.cli import InputError
from lookahead.files.rows import read_json
from lookahead.model import Config

# What transformers takes where a config.json says nothing: of every type, and of each.
COMMON = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
DEFAULTS = {
    "llama": {"sliding_window": None},
    "mistral": {"sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": {"sliding_window": 4096, "num_key_value_heads": 32},
    "qwen3": {"sliding_window": 4096, "num_key_value_heads": 32, "head_dim": 128},
}
# The values of other settings that are computed, the default first.
COMPUTED = {"hidden_act": ["silu"], "is_causal": [True], "tie_word_embeddings": [False, True]}
COMPUTED |= {"mlp_bias": [False], "attention_bias": [False], "quantization_config": [None]}
COMPUTED |= {"partial_rotary_factor": [None], "original_max_position_embeddings": [None]}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# So that the outline of a model, which is made before its weights are seen, fits into memory.
LARGEST = {"num_hidden_layers": 1000, "num_attention_heads": 10**4, "head_dim": 10**4}
LARGEST |= {"hidden_size": 10**6}


def read_config(path):
    """Return the Config of a `config.json`; InputError names the setting that cannot be used."""
    reject_adapter(path.parent)
    fields = read_json(path)
    try:
        return _make_config(str(fields.get("model_type")), fields)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {error} is not supported by this model.") from None


def _make_config(kind, fields):
    # What the model does not compute is rejected by name.
    _check(kind in DEFAULTS, "model_type", kind)
    for name, values in COMPUTED.items():
        ignored = kind == "qwen2" and name == "attention_bias"  # its biases are always there
        value = fields.get(name, values[0])
        _check(value in values or ignored, name, value)
    sliding = "qwen" not in kind or fields.get("use_sliding_window")
    layers = set(fields.get("layer_types") or ()) - {"full_attention"}
    _check(layers <= ({"sliding_attention"} if sliding else set()), "layer_types", layers)
    rope_name = "rope_scaling" if fields.get("rope_scaling") else "rope_parameters"
    rope = fields.get(rope_name) or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    known = {"rope_type", "type", "rope_theta", *LLAMA3}
    _check(rope_type in ("default", "llama3") and set(rope) <= known, rope_name, rope)

    # Sizes that are absent or null follow from others; what RoPE's settings lack is beside them.
    fields = COMMON | DEFAULTS[kind] | fields
    heads = _number(fields, "num_attention_heads")
    fields["head_dim"] = fields.get("head_dim") or _number(fields, "hidden_size") // heads
    fields["num_key_value_heads"] = fields.get("num_key_value_heads") or heads
    fields["rope_theta"] = rope.get("rope_theta", fields["rope_theta"])
    fields["rope_scaling"] = None
    if rope_type == "llama3":
        rope = {"original_max_position_embeddings": fields.get("max_position_embeddings")} | rope
        fields["rope_scaling"] = {name: _number(rope, name) for name in LLAMA3}
        _check(rope["low_freq_factor"] < rope["high_freq_factor"], rope_name, rope)
    if sliding and fields["sliding_window"] is not None:
        window = _number(fields, "sliding_window")
        fields["max_position_embeddings"] = min(window, _number(fields, "max_position_embeddings"))

    # What is left are numbers, and what the type says.
    for name, number_type in Config.__annotations__.items():
        if number_type in (int, float):
            _number(fields, name)
    _check(heads % fields["num_key_value_heads"] == 0, "num_key_value_heads", heads)
    _check(fields["head_dim"] % 2 == 0, "head_dim", fields["head_dim"])
    fields |= {"attention_bias": kind == "qwen2", "qk_norm": kind == "qwen3"}
    return Config(**{name: fields[name] for name in Config._fields})


def _check(fine, name, value):
    if not fine:
        raise ValueError(f"{name} {value!r:.80}")


def _number(fields, name):
    """Return a setting that must be a positive number, whole where Config has it so."""
    value = fields.get(name)
    kinds = (int, Config.__annotations__.get(name, float))
    _check(type(value) in kinds and 0 < value <= LARGEST.get(name, 10**12), name, value)
    return value


def read_fields(path):
    """Return what a JSON object has, or {} where there is no such file."""
    return read_json(path) if path.is_file() else {}


def reject_adapter(folder):
    """Reject a directory with an adapter, which other programs would put on the model."""
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder}: holds an adapter_config.json; merge that adapter first.")


def check_end(folder, tokenizer, end_token):
    """Return the ids at which a model directory ends a turn, a set; the template's is one of them.

    The ids of `config.json` and `generation_config.json` are taken together: some models list all
    of them in the second only. Only where there is none is `tokenizer_config.json` asked for its
    eos_token, which in the first files of Llama 3 is another. What is absent or null says nothing.
    """
    ids = []
    for name in ("config.json", "generation_config.json"):
        listed = read_fields(folder / name).get("eos_token_id")
        ids += listed if isinstance(listed, list) else [listed]
    ids = [i for i in ids if i is not None]
    token = read_fields(folder / "tokenizer_config.json").get("eos_token")
    if isinstance(token, dict):  # with options: how it strips spaces
        token = token.get("content")
    end = tokenizer.special(end_token)
    if end not in ids if ids else token not in (None, end_token):
        raise InputError(f"{folder}: ends a turn with {ids or token}, not with {end_token} "
                         f"({end}); give the --template of the model.")  # fmt: skip
    return set(ids)
