"""What the first answer tokens cost the aligned model under each preview: does the premise hold?

    python bench/premise.py --task gsm8k --data train.jsonl --limit 60 --model DIR \\
        --template smollm2 --method vanilla real virtual

All options are train.py's; nothing is trained. A token that is copied from the prompt costs almost
nothing. In nats, the mean over rows; `rest` is the mean of the later tokens of the answer.
"""

import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import train
from lookahead.losses import answer_log_probs

SHOWN = 6

args = train.parse_arguments()
task, aligned, chat, rows = train.set_up(args)
model = train.load_aligned(aligned, args)
print("| method |", " | ".join(map(str, range(1, SHOWN + 1))), "| rest |")
print("| --- " * (SHOWN + 2) + "|")
for name in args.method:
    examples, _ = train.prepare(name, rows.pairs, chat, task, aligned, args)
    log_probs, _ = answer_log_probs(model, examples, args.token_budget, name=name)
    costs = [(-log_prob).tolist() for log_prob in log_probs]
    means = [statistics.fmean(cost[k] for cost in costs if len(cost) > k) for k in range(SHOWN)]
    rest = statistics.fmean(nats for cost in costs for nats in cost[SHOWN:])
    print(f"| {name} |", " | ".join(f"{mean:.2f}" for mean in [*means, rest]), "|", flush=True)
