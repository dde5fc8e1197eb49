"""Model directories: the same weights come back, transformers reads them, broken files are told."""

import hashlib
import json
import random
import subprocess
import sys

import pytest
import torch
from test_model import BASE, SHAPES, random_model

from lookahead.cli import InputError
from lookahead.files.checkpoint import (
    describe,
    load_model,
    read_companions,
    save_model,
    weights_sha256,
)  # fmt: skip
from lookahead.files.tensors import read_metadata, read_tensors, write_tensors
from lookahead.files.writing import write_json

NORM = "model.norm.weight"


@pytest.fixture
def make(tmp_path):
    """Write the model directory of a configuration; return it and the model."""

    def write(config=BASE, name="model"):
        folder = tmp_path / name
        model = random_model(config)
        write_json(folder / "config.json", describe(config))
        log = [{"loss": 1.0}]
        save_model(folder, model, {"method": "aligned"}, log, read_companions(folder))
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
    assert not list(folder.glob("*.part"))
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.randint(97, (3, 17))
    torch.testing.assert_close(model(tokens), peer(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_transformers_saved_in_shards_is_loaded(tmp_path, dtype):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(**describe(SHAPES["qwen3"]))
    peer = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    peer.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for name, tensor in load_model(tmp_path).state_dict().items():
        assert torch.equal(tensor, peer.state_dict()[name].float())


def test_a_fine_tuned_model_has_the_files_of_its_aligned_model(make, tmp_path):
    folder, model = make()
    (folder / "chat_template.jinja").write_text("[INST]")
    (folder / "tokenizer.model").write_bytes(b"\xff\x00")
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "logs.txt").mkdir()
    tuned = tmp_path / "tuned"
    copies = read_companions(folder)
    assert sorted(copies) == ["chat_template.jinja", "config.json", "tokenizer.model"]
    (folder / "tokenizer.model").unlink()  # they were read before training
    save_model(tuned, load_model(folder, dtype=torch.bfloat16), {"seed": 1}, [], copies)
    assert (tuned / "chat_template.jinja").read_text() == "[INST]"
    assert (tuned / "tokenizer.model").read_bytes() == b"\xff\x00"
    assert json.loads((tuned / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for name, tensor in read_tensors(tuned / "model.safetensors"):
        assert torch.equal(tensor, model.state_dict()[name].bfloat16())

    data = (tuned / "model.safetensors").read_bytes()
    assert weights_sha256(tuned) == hashlib.sha256(data).hexdigest()


def test_what_cannot_be_copied_is_rejected_before_training(make):
    folder, _ = make()
    (folder / "special_tokens_map.json").symlink_to("../../blobs/0123")
    with pytest.raises(InputError, match="special_tokens_map.json: cannot be copied to the runs"):
        read_companions(folder)


def test_a_failed_save_leaves_no_complete_run(make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    folder, model = make()
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        save_model(folder, model, {}, [], read_companions(folder))
    assert not (folder / "run.json").exists()
    assert (folder / "model.safetensors").read_bytes() == before


def test_loading_takes_memory_for_one_copy(make):
    wide = {"vocab_size": 400, "hidden_size": 512, "intermediate_size": 2048}
    folder, _ = make(BASE._replace(num_hidden_layers=12, **wide))
    code = (
        "import pathlib, resource, sys\n"
        "from lookahead.files.checkpoint import load_model\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "load_model(pathlib.Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    size = (folder / "model.safetensors").stat().st_size / 1024
    assert size > 100_000 and int(run.stdout) < 1.25 * size, run.stderr


@pytest.mark.parametrize(
    "change, words",
    [
        ({NORM: None}, "1 tensors are missing, model.norm.weight first"),
        ({NORM: torch.ones(31)}, "norm.weight' .31,. comes twice, is quantized or"),
        ({NORM: torch.ones(32, dtype=torch.int16)}, "norm.weight' .32,. .* is quantized or"),
        ({"codebooks": torch.ones(2)}, "codebooks' .2,. comes twice, is quantized or"),
    ],
)
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


@pytest.mark.parametrize(
    "shards, words",
    [
        (["a", "b"], "b: tensor 'model.norm.weight' .32,. comes twice"),
        (["../c"], "model/c: no such file"),
        (["c"], "c: no such file"),
        ([], "tensors are missing"),
    ],
)
def test_shards_hold_each_tensor_once(make, shards, words):
    folder, _ = make()
    (folder / "model.safetensors").rename(folder / "a")
    write_tensors(folder / "b", {NORM: torch.ones(32)})
    write_json(folder / "model.safetensors.index.json", {"weight_map": dict(enumerate(shards))})
    with pytest.raises(InputError, match=words):
        load_model(folder)


TENSORS = {"a.weight": torch.randn(3, 5), "b": torch.randn(4).bfloat16()}
TENSORS |= {"long name" * 3: torch.randn(2, 2, 2).half(), "rest": torch.arange(6).short()}
TENSORS |= {"step": torch.tensor(3.0)}


def test_the_file_is_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x"
    write_tensors(path, TENSORS, {"log": "[1]"})
    theirs = safetensors.load_file(path)
    ours = dict(read_tensors(path))
    assert read_metadata(path) == {"format": "pt", "log": "[1]"}
    for name, tensor in TENSORS.items():
        assert torch.equal(theirs[name], tensor) and torch.equal(ours[name], tensor)


PIECES = [b"", b"\x00", b"0", b"-1", b"9" * 20, b"1e9", b"[", b"]", b"{", b"}", b'"', b",", b"null",
          b"BF16", b"shape", b"\xff", b"\\ud800", b"[" * 3000]  # fmt: skip


def mutate(data, rng):
    """Put something in the place of a few bytes: mostly in the length and the header."""
    place = rng.randrange(rng.choice((8, 300, len(data))))
    piece = rng.choice(PIECES)
    return data[:place] + piece + data[place + rng.choice((0, len(piece), 8)) :]


def test_a_damaged_file_gives_tensors_from_inside_it_or_one_sentence(tmp_path):
    path = tmp_path / "x"
    write_tensors(path, TENSORS)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"[3, 5], ", b"[-3,-5],"))  # as many numbers
    with pytest.raises(InputError, match="'a.weight' has a wrong shape"):
        dict(read_tensors(path))
    rng = random.Random(1)
    rejected = 0
    for _ in range(500):
        data = mutate(good, rng)
        path.write_bytes(data)
        try:
            found = dict(read_tensors(path))
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            rejected += 1
        else:
            size = 8 + int.from_bytes(data[:8], "little")
            assert size + sum(tensor.nbytes for tensor in found.values()) == len(data)
    assert 250 < rejected < 500


def test_a_tied_head_that_is_stored_too_must_be_the_embeddings(make):
    folder, model = make(BASE._replace(tie_word_embeddings=True))
    weights = model.state_dict()  # the head among them, as some published files have it
    write_tensors(folder / "model.safetensors", weights)
    assert torch.equal(load_model(folder).lm_head.weight, model.lm_head.weight)
    write_tensors(folder / "model.safetensors", weights | {"lm_head.weight": torch.ones(97, 32)})
    with pytest.raises(InputError, match="differs from the embeddings"):
        load_model(folder)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float8_e4m3fn", "int64"])
def test_quantized_weights_are_told_as_quantized(make, dtype):
    safetensors = pytest.importorskip("safetensors.torch")
    folder, model = make()
    weights = model.state_dict() | {NORM: torch.ones(32).to(getattr(torch, dtype))}
    safetensors.save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"norm.weight' is \w+; quantized"):
        load_model(folder)
