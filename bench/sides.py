"""What bench/run.py compares: each side does the same work in its own way, in its own process.

A side is a function of the job that prepares (work, tokens): `work()` is timed and returns a result
by which sides can be seen to have done the same. Printed is one JSON line. Memory is the peak of
the GPU's allocator, or of this process less its peak before the model was built.
"""

import argparse
import json
import pathlib
import random
import resource
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead import one_gpu, training
from lookahead.batches import Example, pad, shuffled_batches
from lookahead.generate import generate
from lookahead.model import Config, Llama

SHAPES = {
    "test": Config(97, 32, 48, 2, 4, 2, 8, 1024),
    "cpu": Config(2000, 256, 688, 6, 4, 4, 64, 1024),  # 5.8 million parameters
    "smollm2": Config(49152, 576, 1536, 30, 9, 3, 64, 2048, tie_word_embeddings=True),
    "tinyllama": Config(32000, 2048, 5632, 22, 32, 4, 64),
    "llama-2-7b": Config(32000, 4096, 11008, 32, 32, 32, 128, 4096),
}
RECIPE = training.Recipe(epochs=1)


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
    data = examples("train", job)
    model = build(job)
    if job.side == "recomputation the other way":
        model.recompute = not model.recompute
    if job.side.startswith("bfloat16"):
        model.bfloat16()
    if job.side == "LoRA, rank 16":
        one_gpu.add_lora(model, 16, seed=0)

    # As train.py does, but for one side: bf16 weights have a master.
    optimizer = training.make_adamw(model, RECIPE)
    take_step = training.take_step
    in_bfloat16 = model.lm_head.weight.dtype == torch.bfloat16
    if in_bfloat16 and job.side not in ("bfloat16, no master", "LoRA, rank 16"):
        optimizer = one_gpu.SplitAdamW(model.parameters(), (RECIPE.beta1, RECIPE.beta2))
        take_step = one_gpu.take_step
    loop = training.Loop(RECIPE, take_step=take_step, token_budget=job.token_budget)

    def work():
        log = training.train(model, optimizer, data, loop)
        return f"loss {sum(row['loss'] for row in log) / len(log):.3f}"

    return work, sum(len(example.ids) for example in data)


def train_peer(job):
    transformers, peer = build_peer(job)
    data = examples("train", job)
    ordered = [pair for batch in shuffled_batches(data, 64, 0) for pair in batch]

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
        output_dir="/tmp/bench", num_train_epochs=1, per_device_train_batch_size=8,
        gradient_accumulation_steps=8, learning_rate=RECIPE.lr, weight_decay=0.0,
        lr_scheduler_type="linear", adam_beta1=RECIPE.beta1, max_grad_norm=0,
        optim="adamw_torch_fused", use_cpu=job.device == "cpu", report_to=[], disable_tqdm=True,
        gradient_checkpointing=job.device != "cpu", save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = InOrder(model=peer, args=settings, train_dataset=ordered, data_collator=collate)
    tokens = sum(len(example.ids) for example in data)
    return lambda: f"loss {trainer.train().training_loss:.3f}", tokens


def decode_ours(job):
    data = examples("test", job)
    model = build(job)
    prompts = [example.ids[: example.start] for example in data]
    limits = [len(example.ids) - example.start for example in data]

    def work():
        return checksum(generate(model, prompts, [], limits, job.batch_size))

    return work, sum(limits)


def decode_peer(job):
    """Generate in our order; a batch goes on up to its longest answer, and each is cut there."""
    _, peer = build_peer(job)
    data = examples("test", job)
    order = sorted(range(len(data)), key=lambda i: data[i].start)
    answers = {}

    def work():
        for first in range(0, len(order), job.batch_size):
            # The prompts are padded on the left, with an id that no example has.
            rows = order[first : first + job.batch_size]
            width = max(data[i].start for i in rows)
            limits = [len(data[i].ids) - data[i].start for i in rows]
            left = [[0] * (width - data[i].start) + data[i].ids[: data[i].start] for i in rows]
            tokens = torch.tensor(left, device=job.device)
            output = peer.generate(
                tokens, attention_mask=tokens.ne(0).long(), max_new_tokens=max(limits),
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            for i, row, limit in zip(rows, output.tolist(), limits):
                answers[i] = row[width : width + limit]
        return checksum(answers[i] for i in range(len(data)))

    return work, sum(len(example.ids) - example.start for example in data)


def checksum(answers):
    """Return a short sum of generated ids; equal sums mean equal tokens."""
    return f"sum {sum((i + 1) * token for ids in answers for i, token in enumerate(ids)) % 10**6}"


SIDES = {
    "training": {"ours": train_ours, "Trainer, 8 times 8": train_peer},
    "decoding": {"ours": decode_ours, "generate, sorted": decode_peer},
    "ablation": {
        "train.py as it is": train_ours,
        "recomputation the other way": train_ours,
        "bfloat16, split master": train_ours,
        "bfloat16, no master": train_ours,
        "LoRA, rank 16": train_ours,
    },
}


def process_memory():
    """Return the most bytes that this process has held (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    job = argparse.Namespace(**json.loads(sys.argv[1]))
    before = process_memory()
    work, tokens = SIDES[job.table][job.side](job)

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

    peak = torch.cuda.max_memory_reserved() if on_gpu else process_memory() - before
    print(json.dumps({"rate": tokens / seconds, "seconds": seconds, "peak": peak,
                      "result": result}))  # fmt: skip


if __name__ == "__main__":
    main()
