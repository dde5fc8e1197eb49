"""Model directories: the same weights come back, transformers reads them, broken files are told."""

import contextlib
import json
import random

import pytest
import torch
from conftest import random_model
from test_model import BASE, SHAPES, peer_of

from lookahead.cli import InputError
from lookahead.files.checkpoint import describe, load_model, read_companions, save_model
from lookahead.files.tensors import read_tensors, write_tensors
from lookahead.files.writing import write_json

NORM = "model.norm.weight"


@pytest.fixture
def make(tmp_path):
    """Write the model directory of a configuration; return it and the model."""

    def write(config=BASE):
        folder = tmp_path / "model"
        model = random_model(config)
        write_json(folder / "config.json", describe(config))
        save_model(folder, model, {"method": "aligned"}, [], read_companions(folder))
        return folder, model

    return write


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_saved_is_loaded_here_and_by_transformers(make, shape):
    folder, model = make(SHAPES[shape])
    again = load_model(folder)
    assert again.config == model.config
    tied = again.lm_head.weight is again.model.embed_tokens.weight
    assert tied == model.config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.randint(97, (3, 17))
    torch.testing.assert_close(model(tokens), peer(tokens).logits, atol=1e-4, rtol=0)


def test_what_transformers_saved_in_shards_is_loaded(tmp_path):
    peer = peer_of(random_model(SHAPES["qwen3"])).half()
    peer.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert torch.equal(tensor, peer.state_dict()[name].float())


def test_a_fine_tuned_model_has_the_files_of_its_aligned_model(make, tmp_path):
    folder, model = make()
    (folder / "chat_template.jinja").write_text("[INST]")
    (folder / "tokenizer.model").write_bytes(b"\xff\x00")
    tuned = tmp_path / "tuned"
    copies = read_companions(folder)
    assert sorted(copies) == ["chat_template.jinja", "config.json", "tokenizer.model"]
    save_model(tuned, load_model(folder, dtype=torch.bfloat16), {"seed": 1}, [], copies)
    assert (tuned / "chat_template.jinja").read_text() == "[INST]"
    assert (tuned / "tokenizer.model").read_bytes() == b"\xff\x00"
    assert json.loads((tuned / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for name, tensor in read_tensors(tuned / "model.safetensors"):
        assert torch.equal(tensor, model.state_dict()[name].bfloat16())

    (folder / "special_tokens_map.json").symlink_to("../../blobs/0123")
    with pytest.raises(InputError, match="special_tokens_map.json: cannot be copied to the runs"):
        read_companions(folder)


def test_a_failed_save_leaves_no_complete_run(make, monkeypatch):
    folder, model = make()
    monkeypatch.setattr("lookahead.files.checkpoint.write_tensors", None)
    with pytest.raises(TypeError):
        save_model(folder, model, {}, [], read_companions(folder))
    assert not (folder / "run.json").exists()


@pytest.mark.parametrize("change, words", [
    ({NORM: None}, "1 tensors are missing, model.norm.weight first"),
    ({NORM: torch.ones(31)}, "norm.weight' .31,. comes twice, is quantized or"),
    ({NORM: torch.ones(32, dtype=torch.int16)}, "norm.weight' .32,. .* is quantized or"),
    ({"codebooks": torch.ones(2)}, "codebooks' .2,. comes twice, is quantized or"),
])  # fmt: skip
def test_tensors_that_are_not_the_models_are_told(make, monkeypatch, change, words):
    folder, model = make()
    tensors = model.state_dict() | {"model.layers.0.rotary_emb.inv_freq": torch.ones(4)}
    write_tensors(folder / "model.safetensors", tensors)
    load_model(folder)
    tensors = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    write_tensors(folder / "model.safetensors", tensors)
    monkeypatch.setattr("lookahead.files.checkpoint.read_tensors", None)  # from the headers alone
    with pytest.raises(InputError, match=words):
        load_model(folder)


@pytest.mark.parametrize("shards, words", [
    (["a", "b"], "b: tensor 'model.norm.weight' .32,. comes twice"),
    (["../c"], "model/c: no such file"),
    ([], "tensors are missing"),
])  # fmt: skip
def test_shards_hold_each_tensor_once(make, shards, words):
    folder, _ = make()
    (folder / "model.safetensors").rename(folder / "a")
    write_tensors(folder / "b", {NORM: torch.ones(32)})
    write_json(folder / "model.safetensors.index.json", {"weight_map": dict(enumerate(shards))})
    with pytest.raises(InputError, match=words):
        load_model(folder)


def test_a_damaged_file_gives_tensors_from_inside_it_or_one_sentence(tmp_path):
    path = tmp_path / "x"
    tensors = {"a.weight": torch.randn(3, 5), "b": torch.randn(4).bfloat16()}
    write_tensors(path, tensors | {"step": torch.tensor(3.0)})
    good = path.read_bytes()
    changes = [(b"[3, 5], ", b"[-3,-5],", "'a.weight' has a wrong shape")]  # as many numbers
    changes += [(b'"F32"', b'"I32"', "'a.weight' is I32; quantized ones are not read")]
    for old, new, words in changes:
        path.write_bytes(good.replace(old, new))
        with pytest.raises(InputError, match=words):
            dict(read_tensors(path))

    # Something else in the place of a few bytes: mostly in the length and the header.
    rng = random.Random(1)
    for _ in range(500):
        place = rng.randrange(rng.choice((8, 300, len(good))))
        piece = rng.choice([b"", b"\x00", b"-1", b"9" * 20, b"[", b"]", b"{", b"\xff", b"[" * 3000])
        data = good[:place] + piece + good[place + rng.choice((0, len(piece), 8)) :]
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            size = 8 + int.from_bytes(data[:8], "little")
            assert size + sum(tensor.nbytes for _, tensor in read_tensors(path)) == len(data)


def test_a_tied_head_that_is_stored_too_must_be_the_embeddings(make):
    folder, model = make(BASE._replace(tie_word_embeddings=True))
    weights = model.state_dict()  # the head among them, as some published files have it
    write_tensors(folder / "model.safetensors", weights)
    load_model(folder)
    write_tensors(folder / "model.safetensors", weights | {"lm_head.weight": torch.ones(97, 32)})
    with pytest.raises(InputError, match="differs from the embeddings"):
        load_model(folder)
