"""What bf16 weights learn, by where their fp32 master starts, and what a bf16 file keeps of it.

    python bench/bf16.py --model DIR --template smollm2 --data train.jsonl --test test.jsonl
    python bench/bf16.py ... --steps 16 --lr 2e-5 --beta1 0.5 --test-rows 48
    python bench/bf16.py --task toy --model out/toy/aligned --template llama-2 \
        --data out/toy/data/train.jsonl --test out/toy/data/test.jsonl \
        --harmful out/toy/data/harmful.jsonl --steps 46 --epochs 3 --rows 32 --test-rows 80

Each way fine-tunes the model on the same rows in the same order, lr falling to zero:
- fp32: fp32 weights throughout, from the weights that bf16 holds.
- grid: bf16 weights with a master that starts at them, the usual way.
- kept: bf16 weights with a master that is the file's numbers, for fp32 and fp16 files.
- random: bf16 weights whose master starts anywhere that rounds to them.

Printed are the training loss (nats a token), as it went, in at most eight means over equally many
steps (the last may have fewer), and three test losses: of the fp32 master, of the master rounded to
bf16 to nearest, and at random; with `--harmful` the RSR in percent follows each. All three are
computed in fp32. *Kept* is the share of the master's update, along its direction, that is in what
was rounded.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead import one_gpu, training
from lookahead.cli import Parser, run_script
from lookahead.examples import choose_rows, to_example
from lookahead.files import load_model, read_weights
from lookahead.generate import generate
from lookahead.losses import answer_log_probs
from lookahead.one_gpu.halves import join, round_at_random
from lookahead.tasks import TASKS, read_harmful
from lookahead.templates import TEMPLATES, load_chat
from lookahead.toy import aligned

TOKEN_BUDGET = 2048
SAFETY_TOKENS = 48  # of an answer to a harmful request; few are cut before the judge is done
WAYS = ["fp32", "grid", "kept", "random"]


def parse_arguments():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--model", type=pathlib.Path, required=True, help="directory in Hugging Face layout")
    add("--template", choices=TEMPLATES, required=True)
    add("--task", choices=["toy", *TASKS], default="gsm8k", help="what is trained")
    add("--data", required=True, help="training rows")
    add("--test", required=True, help="test rows")
    add("--harmful", help="harmful requests")
    add("--ways", nargs="+", choices=WAYS, default=WAYS, help="what is compared")
    add("--steps", type=int, default=6, help="of an epoch")
    add("--epochs", type=int, default=1, help="over the same rows")
    add("--rows", type=int, default=16, help="of a step")
    add("--test-rows", type=int, default=32, help="for the test loss")
    add("--lr", type=float, default=1e-4, help="falling to zero")
    add("--beta1", type=float, default=0.9, help="of AdamW")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    return parser.parse_args()


def read_examples(path, number, chat, task):
    """Return the first examples of a file that have at most 512 tokens."""
    rows, _ = choose_rows(path, task, chat, 512, 2 * number)
    return [to_example(row, chat) for row in rows[:number]]


@torch.no_grad()
def copies(model, masters):
    """Return {name: copy of the fp32 master} of a model's parameters."""
    numbers = {}
    for name, weight in model.named_parameters():
        numbers[name] = join(weight, masters.state[weight]["rest"]) if masters else weight.clone()
    return numbers


def fine_tune(way, examples, args):
    """Return the model in fp32, its masters before and after training, and the losses of steps."""
    model = load_model(args.model, args.device, torch.bfloat16)
    recipe = training.Recipe(epochs=args.epochs, batch_size=args.rows, lr=args.lr, beta1=args.beta1)
    masters = None
    if way == "fp32":
        model.float()
    else:
        masters = one_gpu.SplitAdamW(model.parameters(), (recipe.beta1, recipe.beta2))
    if way in ("kept", "random"):
        file = read_weights(args.model)
        rounded = ((name, tensor.bfloat16()) for name, tensor in file)
        one_gpu.fill_masters(masters, model, file if way == "kept" else rounded, seed=0)

    before = copies(model, masters)
    optimizer = masters or training.make_adamw(model, recipe)
    take_step = one_gpu.take_step if masters else training.take_step
    loop = training.Loop(recipe, take_step=take_step, token_budget=TOKEN_BUDGET, name=way)
    log = training.train(model, optimizer, examples, loop)
    after = copies(model, masters)
    return model.float(), before, after, [row["loss"] for row in log]


def measure(model, weights, tests, requests, chat, task):
    """Return as text the mean loss of the tests' answer tokens under the weights, and the RSR."""
    for name, weight in model.named_parameters():
        weight.data.copy_(weights[name])
    log_probs, _ = answer_log_probs(model, tests, TOKEN_BUDGET)
    loss = -torch.cat(log_probs).mean().item()
    answers = generate(model, requests, chat.end_ids, SAFETY_TOKENS)
    safe = [task.is_safe(chat.decode(ids)) for ids in answers]
    return f"{loss:.3f}" + (f" / {sum(safe) / len(safe):.0%}" if safe else "")


def share_kept(before, after, saved):
    """Return the share of the update that a bf16 copy has along the update's direction."""
    kept = total = 0.0
    for name in after:
        update = (after[name] - before[name]).double()
        held = saved[name].double() - before[name].bfloat16().double()
        kept += (update * held).sum().item()
        total += update.square().sum().item()
    return kept / total


def main():
    args = parse_arguments()
    task = {"toy": aligned.TASK, **TASKS}[args.task]
    chat = load_chat(args.model, args.template, task.system)
    examples = read_examples(args.data, args.steps * args.rows, chat, task)
    tests = read_examples(args.test, args.test_rows, chat, task)
    pairs = read_harmful(args.harmful) if args.harmful else []
    chat = chat._replace(system=task.safety_system)
    requests = [chat.encode(pair.prompt)[0] for pair in pairs]
    print(f"{args.epochs} times {args.steps} steps of {args.rows} rows, {len(tests)} test rows\n")
    print("| way | training loss | master | to nearest | kept | at random | kept |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for way in args.ways:
        model, before, after, losses = fine_tune(way, examples, args)
        size = -(-len(losses) // 8)  # rounded up
        stretches = [losses[i : i + size] for i in range(0, len(losses), size)]
        generator = torch.Generator(args.device).manual_seed(0)
        nearest = {name: tensor.bfloat16() for name, tensor in after.items()}
        rounded = {name: round_at_random(tensor, generator) for name, tensor in after.items()}
        cells = [way, " ".join(f"{sum(part) / len(part):.3f}" for part in stretches)]
        cells.append(measure(model, after, tests, requests, chat, task))
        for saved in (nearest, rounded):
            cells.append(measure(model, saved, tests, requests, chat, task))
            cells.append(f"{share_kept(before, after, saved):.0%}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    run_script(main)
