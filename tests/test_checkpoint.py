"""Model directories: the same weights come back, transformers reads them, broken files are told."""

import json
import struct
import subprocess
import sys

import pytest
import torch
from conftest import tiny

from lookahead.checkpoint import load, refuse_foreign, save
from lookahead.commands import InputError
from lookahead.model import Config, Llama
from lookahead.tensors import read_tensors, write_tensors


@pytest.fixture
def folder(tmp_path, tokenizer):
    save(tmp_path / "model", tiny(400), tokenizer, {"method": "seed"})
    return tmp_path / "model"


@pytest.mark.parametrize("tied", [False, True])
def test_what_was_saved_is_loaded(tmp_path, tokenizer, tied):
    model = tiny(400, tied=tied)
    save(tmp_path, model, tokenizer, {})
    again, again_tokenizer = load(tmp_path)
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert again_tokenizer.encode("It is 42.") == tokenizer.encode("It is 42.")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_loads_it(tmp_path, tokenizer, tied):
    transformers = pytest.importorskip("transformers")
    model = tiny(400, tied=tied)
    save(tmp_path, model, tokenizer, {})
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.randint(0, 97, (3, 17))
    torch.testing.assert_close(model(tokens), peer(tokens).logits, atol=1e-4, rtol=0)


SHAPES = {
    "Llama-2": {},
    "TinyLlama, grouped": {"num_key_value_heads": 1, "rope_theta": 500.0, "rms_norm_eps": 1e-3},
    "tied": {"tie_word_embeddings": True},
    "Mistral 0.2": {"model_type": "mistral", "rope_theta": 1e6, "sliding_window": None},
    "Mistral 0.1, within its window": {"model_type": "mistral", "sliding_window": 128},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("limit", ["20KB", "1GB"])
def test_what_transformers_saved_is_loaded(shape, limit, dtype, tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    fields = tiny(400).config._asdict() | SHAPES[shape]
    config = transformers.AutoConfig.for_model(**({"model_type": "llama"} | fields))
    torch.manual_seed(0)
    peer = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    peer.save_pretrained(tmp_path, max_shard_size=limit)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (limit == "20KB")
    (tmp_path / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    model, _ = load(tmp_path)
    tokens = torch.randint(0, 97, (3, 17))
    expected = peer.float()(tokens).logits
    assert expected.std() > 0.05
    torch.testing.assert_close(model(tokens), expected, atol=1e-4, rtol=0)
    save(tmp_path / "tuned", model, tokenizer, {}, seed_model=tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned").eval()
    assert type(again) is type(peer) and again.dtype == torch.float32
    torch.testing.assert_close(again(tokens).logits, expected, atol=1e-4, rtol=0)


def test_loading_in_bfloat16_rounds_and_is_saved_as_such(folder, tmp_path, tokenizer):
    fine, coarse = load(folder)[0], load(folder, dtype=torch.bfloat16)[0]
    for name, tensor in fine.state_dict().items():
        assert torch.equal(coarse.state_dict()[name], tensor.bfloat16())
    save(tmp_path / "again", coarse, tokenizer, {}, seed_model=folder)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert (
        dict(read_tensors(tmp_path / "again" / "model.safetensors"))[NORM].dtype == torch.bfloat16
    )


def test_the_tokenizer_loads_in_transformers(folder, tokenizer):
    transformers, _ = pytest.importorskip("transformers"), pytest.importorskip("google.protobuf")
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (
        "Hi. Hello. What is 6 * 7?",
        "two  spaces",
        "[INST] Hi. [/INST]",
        "a\nb \U0001f600",
    ):
        assert peer(text).input_ids == [tokenizer.bos_id(), *tokenizer.encode(text)]
    assert peer.eos_token_id == tokenizer.eos_id()


def test_a_fine_tuned_model_has_the_files_of_its_seed_model(folder, tmp_path, tokenizer):
    (folder / "chat_template.jinja").write_text("[INST]")
    (folder / "generation_config.json").write_text("{}")
    save(tmp_path / "tuned", tiny(400), tokenizer, {}, seed_model=folder)
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer.model"):
        assert (tmp_path / "tuned" / name).read_bytes() == (folder / name).read_bytes()
    (folder / "chat_template.jinja").unlink()
    save(tmp_path / "tuned", tiny(400), tokenizer, {}, seed_model=folder)
    assert not (tmp_path / "tuned" / "chat_template.jinja").exists()


def test_loading_takes_memory_for_one_copy(tmp_path, tokenizer):
    config = Config(400, 512, 2048, 12, 8, 8)
    save(tmp_path, Llama(config), tokenizer, {})
    code = (
        "import resource, sys\n"
        "from lookahead.checkpoint import load\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\nload(sys.argv[1])\nprint(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    size = (tmp_path / "model.safetensors").stat().st_size / 1024
    assert size > 190_000 and int(run.stdout) < 1.25 * size, run.stderr


@pytest.mark.parametrize(
    "field, value",
    [
        ("model_type", "qwen2"),
        ("attention_bias", True),
        ("head_dim", 16),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("rope_parameters", {"rope_type": "llama3", "factor": 2.0}),
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("quantization_config", {"bits": 4}),
        ("sliding_window", 64),
    ],
)
def test_what_the_model_does_not_compute_is_refused_by_name(folder, field, value):
    fields = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=f"config.json: {field} "):
        load(folder)


@pytest.mark.parametrize(
    "field, value",
    [
        ("hidden_size", "wide"),
        ("hidden_size", 33),
        ("num_attention_heads", 3),
        ("num_key_value_heads", 3),
        ("num_hidden_layers", 10**12),
        ("vocab_size", -1),
        ("vocab_size", True),
        ("intermediate_size", None),
        ("rope_theta", -1.0),
        ("rope_theta", "long"),
        ("rms_norm_eps", None),
        ("tie_word_embeddings", "no"),
        ("num_hidden_layers", 100_000),
        ("rope_parameters", [1]),
        ("sliding_window", "long"),
    ],
)
def test_a_configuration_without_sense_is_told(folder, field, value):
    fields = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="not a Llama configuration"):
        load(folder)


def test_nothing_is_loaded_before_all_is_checked(folder, monkeypatch):
    monkeypatch.setattr("lookahead.checkpoint.read_tensors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load(folder)
    fields = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="9 tensors are missing, model.layers.2"):
        load(folder)


def test_shards_stay_in_their_directory_and_hold_each_tensor_once(folder):
    tensors = dict(read_tensors(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    write_tensors(folder / "a.safetensors", tensors)
    write_tensors(folder / "b.safetensors", {NORM: tensors[NORM]})
    index = folder / "model.safetensors.index.json"
    for shards, words in (
        (["a.safetensors"], None),
        (["a.safetensors", "b.safetensors"], "norm.weight' .* comes twice"),
        (["../model/a.safetensors"], "no such file"),
        (["c.safetensors"], "no such file"),
        ([["a.safetensors"]], "has no weight_map"),
        ([], "has no weight_map"),
        (["a" * 5000], "has no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": dict(enumerate(shards))}))
        if words:
            with pytest.raises(InputError, match=words):
                load(folder)
        else:
            load(folder)


def test_the_file_is_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = {"a": torch.randn(3, 5), "b": torch.randn(7).bfloat16(), "c": torch.ones(2, 2).half()}
    write_tensors(tmp_path / "x", tensors)
    theirs, ours = safetensors.load_file(tmp_path / "x"), dict(read_tensors(tmp_path / "x"))
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor) and torch.equal(ours[name], tensor)


def rewrite(path, change):
    """Write the safetensors file again with its header changed."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


NORM = "model.norm.weight"


def grow(header):
    """Let the last tensor end at an offset of as many digits as Python reads."""
    last = max(header.keys() - {"__metadata__"}, key=lambda name: header[name]["data_offsets"])
    begin = header[last]["data_offsets"][0]
    count = (10**4300 - 4 - begin) // 4
    header[last].update(shape=[count], data_offsets=[begin, begin + 4 * count])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda h: h.pop(NORM), "wrong offsets|holds"),
        (grow, "wrong offsets"),
        (lambda h: h[NORM].update(dtype="I64"), "is 'I64'; only F32, F16, BF16 are read"),
        (lambda h: h[NORM].update(shape=[0]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[-32, -1]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[31]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[-32]), "wrong offsets"),
        (lambda h: h[NORM].update(data_offsets=[0, 128]), "wrong offsets"),
        (lambda h: h[NORM].update(data_offsets="x"), "broken"),
        (lambda h: h.update({"other.weight": h.pop(NORM)}), "other.weight' .* does not fit"),
        (lambda h: h.update(x=3), "broken"),
        (lambda h: h[NORM].update(data_offsets=[0.0, 128.0]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[32.0]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[True] * 5 + [32]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[10**9] * 10**5), "wrong offsets"),
        (lambda h: h[NORM].update(dtype=["F32"]), "broken"),
        (lambda h: h[NORM].update(shape={}), "wrong offsets"),
        (lambda h: h.update({"\ud800": h.pop(NORM)}), "does not fit"),
    ],
)
def test_a_wrong_header_is_told(folder, change, words):
    rewrite(folder / "model.safetensors", change)
    with pytest.raises(InputError, match=words):
        load(folder)


@pytest.mark.parametrize("text", [b"[" * 10**5, b"\xff" * 9, b"[]", b"null", b'{"a": {}}'])
def test_a_header_that_is_no_header_is_told(folder, text):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(InputError, match="header is broken"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -4])
def test_a_truncated_file_is_told(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="safetensors"):
        load(folder)


def test_a_missing_tensor_and_a_missing_file_are_told(folder):
    tensors = dict(read_tensors(folder / "model.safetensors"))
    del tensors[NORM]
    write_tensors(folder / "model.safetensors", tensors)
    with pytest.raises(InputError, match="1 tensors are missing, model.norm.weight first"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no such file"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: not JSON"):
        load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object"):
        load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="model_type None is not supported"):
        load(folder)


def test_only_our_files_are_replaced(folder, tmp_path, tokenizer):
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds thesis.txt, which is not ours"):
        save(folder, tiny(), tokenizer, {})
    assert (folder / "run.json").exists()
    (folder / "thesis.txt").unlink()
    refuse_foreign(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        refuse_foreign(tmp_path / "file")


def test_a_failed_save_leaves_no_complete_run(folder, tokenizer, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        save(folder, tiny(), tokenizer, {})
    assert not (folder / "run.json").exists() and not list(folder.glob("*.part"))
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_tokenizer_too_large_for_the_model_is_told(tmp_path, tokenizer):
    save(tmp_path, tiny(vocab_size=97), tokenizer, {})
    with pytest.raises(InputError, match="more pieces than the model has words"):
        load(tmp_path)
