"""A pretended GPU: everything lies where a GPU would want it, and the CPU seldom waits for it.

Under `Pretended` a tensor that is made on `cuda`, or moved there, is one of the CPU whose storage
is remembered. What a GPU would reject raises, what makes the CPU wait is counted, and numbers are
the CPU's, so the scripts must give the CPU's results byte for byte. Not seen: which kernels a GPU
would run, what happens inside PyTorch's own functions, and what backward computes again.
"""

import functools
import io
import math

import pytest
import torch
from conftest import tiny
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import evaluate
import train
from lookahead import one_gpu, talk, training
from lookahead.batches import Example, micro_batches
from lookahead.cli import Parser, add_machine_options, settle
from lookahead.files import ResumeFile
from lookahead.files.rows import read_json
from lookahead.generate import generate, rows_at_once
from lookahead.losses import answer_log_probs, cross_entropy
from lookahead.model import Config
from lookahead.one_gpu import with_masters
from lookahead.training import Recipe

ANSWERS = "item tolist equal nonzero unique __bool__ __int__ __float__".split()
BETWEEN = "to copy_ __set__ _has_compatible_shallow_copy_type".split()  # of two devices
KINDS = "--dtype float32", "--dtype bfloat16", "--dtype bfloat16 --lora 4"


class Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        generator = super().__new__(cls)
        generator.place = torch.device(device).type
        return generator


def tensors_of(*things):
    return [leaf for leaf in tree_leaves(things) if isinstance(leaf, torch.Tensor)]


class Pretended(TorchFunctionMode):
    """While it is entered there is a GPU; `waits` counts how often the CPU waits for it."""

    def __init__(self):
        super().__init__()
        self.storages = set()
        self.waits = 0

    def is_there(self, tensor):
        return tensor.untyped_storage()._cdata in self.storages

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function.__name__
        there = any(map(self.is_there, tensors_of(args, kwargs)))
        if function == torch.Tensor.device.__get__ and there:
            return torch.device("cuda", 0)
        if function == torch.Tensor.is_cuda.__get__:
            return there
        if name == "register_post_accumulate_grad_hook":
            return function(args[0], functools.partial(self.enter_and_call, args[1]))
        self.reject(name, there, args, kwargs)
        self.waits += self.is_wait(name, there, args)

        # Where the result goes: what is moved gets other memory.
        goes_there = self.is_there(args[0]) if name in ("copy_", "__set__") else there
        device = args[1] if name == "to" else "cpu" if name == "cpu" else kwargs.get("device")
        if isinstance(device, (str, torch.device)):
            goes_there = torch.device(device).type == "cuda"
            if goes_there and "device" in kwargs:
                kwargs["device"] = "cpu"
            elif goes_there:
                args = [args[0], "cpu", *args[2:]]
            self.waits += name == "tensor" and goes_there
        result = function(*args, **kwargs)
        if name in ("to", "cpu") and goes_there != there:
            result = result.clone()
            self.waits += 1

        for tensor in tensors_of(result):
            remember = self.storages.add if goes_there else self.storages.discard
            remember(tensor.untyped_storage()._cdata)
        return result

    def enter_and_call(self, hook, weight):
        with self:  # in backward PyTorch has left it
            hook(weight)

    def reject(self, name, there, args, kwargs):
        """Raise where a GPU would: single numbers alone may come from the CPU, and indices."""
        generator = kwargs.get("generator")
        if generator is not None and (generator.place == "cuda") != there:
            raise RuntimeError(f"{name}: a generator of {generator.place}")
        if there and name in ("numpy", "__array__"):
            raise TypeError(f"{name}: a tensor on the GPU")
        others = [x for x in tensors_of(args, kwargs) if not self.is_there(x)]
        strange = any(x.dim() or "fused" in name for x in others)
        indices_alone = name == "__getitem__" and self.is_there(args[0])
        if there and strange and not indices_alone and name not in BETWEEN:
            raise RuntimeError(f"{name}: tensors on two devices")

    def is_wait(self, name, there, args):
        """Return whether the CPU waits: for an answer, a copy, or how many a mask selects."""
        if name == "copy_":
            return self.is_there(args[0]) != self.is_there(args[1])
        if name == "__getitem__" and there:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            masks = [x for x in tensors_of(index) if x.dtype == torch.bool or not self.is_there(x)]
            return bool(masks) or any(isinstance(x, (list, range)) for x in index)
        return there and name in ANSWERS


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * 2**30, 9 * 2**30))
    with Pretended() as pretended:
        yield pretended


def results(folder):
    """Return the weights of all runs of a folder, and what `evaluate.py` measured of them."""
    runs = read_json(folder / "results.json")["runs"]
    for run in runs:
        run.pop("seconds_per_epoch", None)
    return [path.read_bytes() for path in sorted(folder.glob("*/model.safetensors"))], runs


@pytest.mark.parametrize("kind", KINDS)
def test_the_scripts_give_what_they_give_on_the_cpu(
    kind, chat_model, tmp_path, script, gpu, monkeypatch, capsys
):
    rows = tmp_path / "rows.jsonl"
    options = [*chat_model, "--system", "", "--lr", 1e-3, "--batch-size", 2, "--limit", 4]
    options += ["--recompute", "--method", "sdft", "constrained", *kind.split()]
    asked = ["--data", rows, "--harmful", rows, "--max-new-tokens", 4, "--safety-tokens", 4]
    both = []
    for device in ("cpu", "cuda"):
        machine = ["--token-budget", 100, "--device", device]
        script(train.main, *options, "--out", tmp_path / device, *machine)
        script(evaluate.main, tmp_path / device / "chat", *asked, "--limit", 4, *machine)
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello."))
        capsys.readouterr()
        script(talk.main, tmp_path / device / "chat", "--max-new-tokens", 4, *machine)
        both.append([capsys.readouterr().out, *results(tmp_path / device / "chat")])
    assert both[0] == both[1] and gpu.waits > 100


@pytest.mark.parametrize("dtype, each, at_the_end", [(torch.float32, 6, 0), (torch.bfloat16, 5, 1)])
def test_waits_of_a_step_before_and_after_resume(dtype, each, at_the_end, tmp_path, gpu):
    """Of a micro-batch: tokens, loss mask, how many tokens a mask selects, thrice; the loss."""
    examples = [Example(list(range(1, 5 + i)), 2) for i in range(12)]
    count = len(micro_batches(examples, 40))
    for _ in range(2):
        model = tiny().to("cuda", dtype)
        optimizer, take_step = training.make_adamw(model, Recipe()), training.take_step
        if dtype == torch.bfloat16:
            file = [(name, torch.ones(weight.shape)) for name, weight in model.named_parameters()]
            optimizer, take_step = with_masters(model, Recipe(), file, 0), one_gpu.take_step
        saved = ResumeFile(tmp_path, {}, model, optimizer, every=1)
        saved.restore()
        gpu.waits = 0
        take_step(model, optimizer, examples, 40, cross_entropy)
        assert gpu.waits == each * count + at_the_end and count > 2
        saved.save([{}])


def test_log_probs_are_kept_on_the_cpu(gpu):
    of_tokens, of_words = answer_log_probs(tiny().to("cuda"), [Example([1, 2, 3], 1)] * 2, 40, 1)
    assert gpu.waits > 0 and not any(map(gpu.is_there, of_tokens + of_words))


def test_waits_of_decoded_tokens(gpu):
    """Tokens and positions go to the GPU, the next tokens come back."""
    model = tiny().to("cuda")
    waits = []
    for limit in (1, 2, 9):
        gpu.waits = 0
        generate(model, [[1, 5, 6], [1, 7]], [], limit)
        waits.append(gpu.waits)
    assert waits == [4, 4 + 3, 4 + 8 * 3]  # in the first pass also where each prompt ends


@pytest.mark.parametrize("device, memory", [("cpu", 4), ("cuda", 8 * 3 / 4)])
def test_as_many_rows_are_decoded_as_memory_has_room_for(device, memory, gpu):
    model = tiny().to(device)
    model.config = Config(97, 4096, 11008, 32, 32, 32, 128)
    a_row = 4 * (700 * 2 * 32 * 32 * 128 + 200 * 3 * (4096 + 11008))
    power = 2 ** int(math.log2(memory * 2**30 // a_row))
    assert rows_at_once(model, 200, 700) == power > 1
    assert rows_at_once(model, 2000, 8000) == 1 and rows_at_once(model, 1, 1) == 256


@pytest.mark.parametrize("has_it, dtype", [(True, "bfloat16"), (False, "float32")])
def test_a_card_without_bfloat16_gets_float32(has_it, dtype, monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it)
    parser = Parser("")
    add_machine_options(parser)
    args = settle(parser.parse_args([]))
    assert (args.device, args.dtype, args.token_budget) == ("cuda", dtype, 4096)
    args = settle(parser.parse_args(["--device", "cpu"]))
    assert (args.device, args.dtype, args.token_budget) == ("cpu", "float32", 1024)


@pytest.mark.parametrize("mistake", [
    lambda x, y: x + y,
    lambda x, y: y[x.long()],
    lambda x, y: x.numpy(),
    lambda x, y: x.random_(generator=torch.Generator()),
    lambda x, y: torch.cat([x, y]),
])  # fmt: skip
def test_what_a_gpu_would_reject_is_rejected(mistake, gpu):
    with pytest.raises((RuntimeError, TypeError), match=": "):
        mistake(torch.ones(3, device="cuda"), torch.ones(3))
