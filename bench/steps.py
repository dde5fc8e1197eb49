"""RSR and KL 1 over the steps of training: when do refusals go, and when does the first token move?

    python bench/steps.py --every 4 --until 44 --method vanilla connector real virtual
    python bench/steps.py --harmful held-out.jsonl --every 4 --task gsm8k --data train.jsonl \\
        --model DIR --template smollm2 --limit 96 --batch-size 8 --lr 5e-5

The other options are train.py's. Each method is trained as there, with the first order of the rows,
and watched by `after_step`; no run is written. OUT/TASK/steps.svg is the picture. Printed as well
is how many answers are blank, which counts as safe. (`connector` is a fork of docs/forking.md.)
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import train
from lookahead.batches import Example
from lookahead.generate import generate
from lookahead.kl import kl_both_ways
from lookahead.losses import answer_log_probs
from lookahead.methods import METHODS, loss_of
from lookahead.report.intervals import mean_score, ratio
from lookahead.report.pictures import bar_chart
from lookahead.safety import is_blank
from lookahead.tasks import read_harmful
from lookahead.training import Loop

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--harmful", help="requests with answers (the toy world brings its own)")
parser.add_argument("--every", type=int, default=10, help="steps (%(default)s)")
parser.add_argument("--until", type=int, default=10**6, help="the last step that is measured")
parser.add_argument("--safety-tokens", type=int, default=48, help="of an answer (%(default)s)")
watch, sys.argv[1:] = parser.parse_known_args()
args = train.parse_arguments()
task, aligned, chat, rows = train.set_up(args)
folder = pathlib.Path(args.out) / args.task

# The harmful requests, and the first token of their answers.
form = chat._replace(system=task.safety_system)
pairs = read_harmful(watch.harmful or folder / "data" / "harmful.jsonl")
examples = [Example(*form.encode(pair.prompt, pair.answer)) for pair in pairs]
prompts = [example.ids[: example.start] for example in examples]
openings = [Example(example.ids[: example.start + 1], example.start) for example in examples]

rsr = {}
kl_1 = {}
for name in args.method:
    of_method, _ = train.prepare(name, rows.pairs, chat, task, aligned, args)
    model = train.load_aligned(aligned, args)
    _, of_aligned = answer_log_probs(model, openings, args.token_budget, first=1)

    def after_step(log, name=name, model=model, of_aligned=of_aligned):
        step = len(log)
        if step % watch.every or step > watch.until:
            return
        ids = generate(model, prompts, chat.end_ids, watch.safety_tokens)
        answers = list(map(chat.decode, ids))
        safe = mean_score([int(task.is_safe(answer)) for answer in answers])
        blank = sum(map(is_blank, answers))
        _, tuned = answer_log_probs(model, openings, args.token_budget, first=1)
        kls = [kl_both_ways(ours, theirs)[0].item() for ours, theirs in zip(tuned, of_aligned)]
        kl = ratio(kls, [1] * len(kls))
        rsr.setdefault(name, {})[step] = safe
        kl_1.setdefault(name, {})[step] = kl
        print(f"{name:12} {step:4}  RSR {safe['value']:.3f}  blank {blank}/{len(answers)}  "
              f"KL 1 {kl['value']:.3f}", flush=True)  # fmt: skip

    after_step([])
    loss = loss_of(METHODS[name], vars(args))
    optimizer, step = train.make_optimizer(model, task.recipe, aligned, 0, args)
    loop = Loop(task.recipe, 0, loss, step, args.token_budget, name)
    train.train(model, optimizer, of_method, loop, after_step=after_step)
bar_chart(folder / "steps.svg", {"RSR by step of training": rsr, "KL 1, nats, by step": kl_1})
print(f"{folder}/steps.svg")
