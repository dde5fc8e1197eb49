"""Model directories: the same weights come back, transformers reads them, broken files are told."""

import dataclasses
import json
import struct

import pytest
import torch
from conftest import tiny

from lookahead.checkpoint import load, read_tensors, refuse_foreign, save, write_tensors
from lookahead.files import InputError


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


def test_what_transformers_saved_is_loaded(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    fields = dataclasses.asdict(tiny(400).config) | {"rope_theta": 500.0}
    config = transformers.LlamaConfig(**fields)
    peer = transformers.LlamaForCausalLM(config).eval()
    peer.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    (tmp_path / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    model, _ = load(tmp_path)
    assert model.config.rope_theta == 500.0
    tokens = torch.randint(0, 97, (3, 17))
    torch.testing.assert_close(model(tokens), peer(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "field, value",
    [
        ("model_type", "qwen2"),
        ("attention_bias", True),
        ("head_dim", 16),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("hidden_act", "gelu"),
    ],
)
def test_what_the_model_does_not_compute_is_refused_by_name(folder, field, value):
    fields = json.loads((folder / "config.json").read_text()) | {field: value}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match=f"config.json: {field} "):
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


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda h: h.pop(NORM), "wrong offsets|holds"),
        (lambda h: h[NORM].update(dtype="I64"), "is 'I64'; only F32, F16, BF16 are read"),
        (lambda h: h[NORM].update(shape=[0]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[-32, -1]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[31]), "wrong offsets"),
        (lambda h: h[NORM].update(shape=[-32]), "wrong offsets"),
        (lambda h: h[NORM].update(data_offsets=[0, 128]), "wrong offsets"),
        (lambda h: h[NORM].update(data_offsets="x"), "broken"),
        (lambda h: h.update({"other.weight": h.pop(NORM)}), "other.weight' .* does not fit"),
        (lambda h: h.update(x=3), "broken"),
    ],
)
def test_a_wrong_header_is_told(folder, change, words):
    rewrite(folder / "model.safetensors", change)
    with pytest.raises(InputError, match=words):
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
