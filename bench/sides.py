"""What bench/run.py compares: each side does the same work in its own way, in its own process.

A side is a function of the job that prepares (work, tokens, what it holds): `work()` is timed and
returns a result by which sides can be seen to have done the same. Printed is one JSON line. Memory
is the peak of the GPU's allocator, or of this process less its size before the model was built.
"""

import argparse
import json
import pathlib
import random
import resource
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead import losses, one_gpu, training
from lookahead.batches import Example, pad, shuffled_batches
from lookahead.generate import generate
from lookahead.model import Config, Llama
from lookahead.one_gpu import split_adamw

SHAPES = {
    "test": Config(97, 32, 48, 2, 4, 2, 8, 1024),
    "cpu": Config(2000, 256, 688, 6, 4, 4, 64, 1024),  # 5.8 million parameters
    "smollm2": Config(49152, 576, 1536, 30, 9, 3, 64, 2048, tie_word_embeddings=True),
    "tinyllama": Config(32000, 2048, 5632, 22, 32, 4, 64),
    "llama-2-7b": Config(32000, 4096, 11008, 32, 32, 32, 128, 4096),
}
RECIPE = training.Recipe(epochs=1)
HOLDS = {"float32": "float32", "bfloat16": "bf16 + int16 = fp32 master, bf16 m, fp32 v"}


def examples(split, job):
    """Return examples of random tokens with the lengths of GSM8K."""
    lengths = json.loads(pathlib.Path(__file__).with_name("lengths.json").read_text())[split]
    draw, vocabulary = random.Random(0), range(3, SHAPES[job.shape].vocab_size)
    return [Example(draw.choices(vocabulary, k=p + a), p) for p, a in lengths[: job.rows]]


def build(job, kind=Llama):
    """Return a model with seeded random weights, ours or a peer's, made where it is held."""
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, job.dtype))
    with torch.device(job.device):
        model = kind(SHAPES[job.shape])
    torch.set_default_dtype(torch.float32)
    model.recompute = job.device != "cpu"
    return model


def build_peer(job):
    """Return the transformers package and its Llama with the same weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    fields = SHAPES[job.shape]._asdict()
    del fields["qk_norm"], fields["rope_scaling"]
    config = transformers.LlamaConfig(**fields)
    peer = build(job, lambda _: transformers.LlamaForCausalLM(config))
    peer.load_state_dict(build(job).state_dict())
    return transformers, peer


def train_ours(job):
    data, model = examples("train", job), build(job)
    change = ABLATIONS.get(job.side)
    holds = change(model) if change else None

    # As train.py does, but for two sides: bf16 weights have a master.
    optimizer = training.make_adamw(model, RECIPE)
    take_step = training.take_step
    in_bfloat16 = model.lm_head.weight.dtype == torch.bfloat16
    if in_bfloat16 and change not in (bfloat16_alone, adapters):
        optimizer = one_gpu.SplitAdamW(model.parameters(), (RECIPE.beta1, RECIPE.beta2))
        take_step = one_gpu.take_step
    loop = training.Loop(RECIPE, take_step=take_step, token_budget=job.token_budget)

    def work():
        log = training.train(model, optimizer, data, loop)
        return f"loss {sum(row['loss'] for row in log) / len(log):.3f}"

    return work, sum(len(example.ids) for example in data), holds or HOLDS[job.dtype]


def train_peer(job):
    (transformers, peer), data = build_peer(job), examples("train", job)
    ordered = [pair for batch in shuffled_batches(data, 64, 0) for pair in batch]
    size = 8 if job.side.endswith("8 times 8") else 64

    def collate(rows):
        tokens, loss_mask, _ = pad(rows)
        lengths = torch.tensor([len(example.ids) for example in rows])
        mask = torch.arange(tokens.size(1)) < lengths[:, None]
        labels = tokens.masked_fill(~loss_mask, -100)
        return {"input_ids": tokens, "attention_mask": mask.long(), "labels": labels}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_, **__):
            return torch.utils.data.SequentialSampler(ordered)

    settings = transformers.TrainingArguments(
        output_dir="/tmp/bench", num_train_epochs=1, per_device_train_batch_size=size,
        gradient_accumulation_steps=64 // size, learning_rate=RECIPE.lr, weight_decay=0.0,
        lr_scheduler_type="linear", adam_beta1=RECIPE.beta1, max_grad_norm=0,
        optim="adamw_torch_fused", use_cpu=job.device == "cpu", report_to=[], disable_tqdm=True,
        gradient_checkpointing=job.device != "cpu", save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = InOrder(model=peer, args=settings, train_dataset=ordered, data_collator=collate)
    holds = "float32" if job.dtype == "float32" else "bf16, no master; bf16 m and v"
    tokens = sum(len(example.ids) for example in data)
    return lambda: f"loss {trainer.train().training_loss:.3f}", tokens, holds


def decode_ours(job):
    data, model = examples("test", job), build(job)
    prompts = [example.ids[: example.start] for example in data]
    limits = [len(example.ids) - example.start for example in data]
    longer = [max(limits)] * len(limits) if job.side.endswith("kept to the end") else limits
    size = 8 if job.side.endswith("8 rows at a time") else job.batch_size

    def work():
        answers = generate(model, prompts, [], longer, size)
        return checksum(ids[:limit] for ids, limit in zip(answers, limits))

    return work, sum(limits), job.dtype


def decode_peer(job):
    """Generate; a criterion says after each token which rows have their number of tokens."""
    (_, peer), data = build_peer(job), examples("test", job)
    order, answers = list(range(len(data))), {}
    if job.side.endswith("sorted"):
        order.sort(key=lambda i: data[i].start)

    def work():
        for first in range(0, len(order), job.batch_size):
            rows = order[first : first + job.batch_size]
            width = max(data[i].start for i in rows)
            limits = [len(data[i].ids) - data[i].start for i in rows]
            left = [[0] * (width - data[i].start) + data[i].ids[: data[i].start] for i in rows]
            mask = [[0] * (width - data[i].start) + [1] * data[i].start for i in rows]
            ends = width + torch.tensor(limits, device=job.device)
            output = peer.generate(
                torch.tensor(left, device=job.device), do_sample=False, max_new_tokens=max(limits),
                attention_mask=torch.tensor(mask, device=job.device), pad_token_id=0,
                eos_token_id=None,
                stopping_criteria=[lambda ids, _, ends=ends, **__: ids.shape[1] >= ends],
            )  # fmt: skip
            for i, row, limit in zip(rows, output.tolist(), limits):
                answers[i] = row[width : width + limit]
        return checksum(answers[i] for i in range(len(data)))

    return work, sum(len(example.ids) - example.start for example in data), job.dtype


def checksum(answers):
    """Return a short sum of generated ids; equal sums mean equal tokens."""
    return f"sum {sum((i + 1) * token for ids in answers for i, token in enumerate(ids)) % 10**6}"


def fixed_micro_batches(model):
    """Micro-batches of 8 as they come, instead of sorted ones with a token budget."""
    for module in (training, split_adamw):
        module.micro_batches = lambda batch, _: [batch[i : i + 8] for i in range(0, len(batch), 8)]


def head_everywhere(model):
    """The head at every position, instead of at answer positions only."""
    select = losses.select_answers

    def full(states, tokens, loss_mask):
        return select(F.linear(states, model.lm_head.weight), tokens, loss_mask)

    for module in (losses, split_adamw):
        module.select_answers = full
    model.lm_head.forward = lambda logits: logits


def other_recompute(model):
    model.recompute = not model.recompute


def bfloat16(model):
    model.bfloat16()
    return HOLDS["bfloat16"]


def bfloat16_alone(model):
    model.bfloat16()
    return "bf16, no master; bf16 m and v"


def adapters(model):
    one_gpu.add_lora(model, 16, seed=0)
    return "weights; float32 adapters"


def compiled(model):
    """Blocks compiled. Two shapes before the clock starts make the code that serves all others."""
    for block in model.model.layers:
        block.compile(dynamic=True)
    for length in (8, 9):
        tokens = torch.ones(length, length, dtype=torch.int64, device=model.lm_head.weight.device)
        model(tokens).sum().backward()
        model.zero_grad()


ABLATIONS = {  # name: what changes the model or the code, and may say what is held
    "train.py as it is": None,
    "micro-batches of 8, not sorted": fixed_micro_batches,
    "head at all positions": head_everywhere,
    "blocks compiled": compiled,
    "recomputation the other way": other_recompute,
    "bfloat16, split master": bfloat16,
    "bfloat16, no master": bfloat16_alone,
    "LoRA, rank 16": adapters,
}
SIDES = {
    "training": {
        "ours": train_ours,
        "Trainer, 64 at once": train_peer,
        "Trainer, 8 times 8": train_peer,
    },
    "decoding": {
        "ours": decode_ours,
        "generate, file order": decode_peer,
        "generate, sorted": decode_peer,
        "ours, rows kept to the end": decode_ours,
        "ours, 8 rows at a time": decode_ours,
    },
    "ablation": dict.fromkeys(ABLATIONS, train_ours),
}


def matmul_speed(job):
    """Return the operations per second of a large matrix product, the median of five."""
    size = 2048 if job.device == "cpu" else 8192
    a = torch.randn(size, size, device=job.device, dtype=getattr(torch, job.dtype))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the GPU
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / sorted(seconds[1:])[2]


def process_memory(peak):
    """Return the bytes that this process holds now, or held at its peak (Linux)."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main():
    job = argparse.Namespace(**json.loads(sys.argv[1]))
    speed, before = matmul_speed(job), process_memory(False)
    work, tokens, holds = SIDES[job.table][job.side](job)

    # The clock starts and stops when the GPU has done all that it was given.
    on_gpu = job.device != "cpu"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started

    peak = torch.cuda.max_memory_reserved() if on_gpu else process_memory(True) - before
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in Llama(SHAPES[job.shape]).parameters())
    operations = (2 if job.table == "decoding" else 6) * parameters * tokens
    used = operations / seconds / speed
    print(json.dumps({"rate": tokens / seconds, "seconds": seconds, "peak": peak, "used": used,
                      "holds": holds, "result": result}))  # fmt: skip


if __name__ == "__main__":
    main()
