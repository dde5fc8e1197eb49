"""Speed and memory, beside Hugging Face's Trainer and generate, and one technique at a time.

    python bench/run.py                            a CPU, a model of 5.8 million parameters
    python bench/run.py --shape llama-2-7b         a GPU of 80 GB
    python bench/run.py training decoding          only these tables (the third is `ablation`)

Every number is a median over rounds in which the sides take turns, each in a process of its own
(`sides.py`). All get the same random weights, token ids with GSM8K's lengths, batches of 64 and
optimizer settings. Tokens are real ones, without padding. A side that cannot run here (a package or
memory missing) says so. README.md tells how to read the tables.
"""

import json
import pathlib
import platform
import statistics
import subprocess
import sys

import torch
from sides import SHAPES, SIDES

from lookahead.cli import Parser, add_machine_options, run_script, say

HEAD = "real tokens/s | times slower | seconds | GiB | result"


def measure(table, side, args):
    """Run a side once in its own process; return its numbers, or why there are none."""
    job = vars(args) | {"table": table, "side": side}
    script = pathlib.Path(__file__).with_name("sides.py")
    run = subprocess.run([sys.executable, script, json.dumps(job)], capture_output=True, text=True)
    if run.returncode == 0:
        return json.loads(run.stdout.splitlines()[-1])
    return {"why": (run.stderr.strip().splitlines() or ["killed, perhaps for memory"])[-1][:80]}


def cells(side, results, base):
    """Return a side's cells; how much slower than base it is, is the median over the rounds."""
    reasons = [result["why"] for result in results if "why" in result]
    if reasons:
        return [side, f"not run: {reasons[0]}"]
    keys = ("rate", "seconds", "peak")
    rate, seconds, peak = (statistics.median(result[key] for result in results) for key in keys)
    slower = [its.get("rate", float("nan")) / mine["rate"] for mine, its in zip(results, base)]
    numbers = [f"{rate:,.0f}", f"{statistics.median(slower):.2f}", f"{seconds:.1f}"]
    return [side, *numbers, f"{peak / 2**30:.2f}", results[0]["result"]]


def main():
    on_cuda = torch.cuda.is_available()
    parser = Parser(__doc__)
    add = parser.add_argument
    add("tables", nargs="*", help=f"of {', '.join(SIDES)} (all)")
    add("--shape", choices=SHAPES, default="tinyllama" if on_cuda else "cpu", help="of the model")
    add("--rows", type=int, default=640 if on_cuda else 128, help="examples")
    add("--batch-size", type=int, default=64, help="prompts decoded at a time")
    add("--repeats", type=int, default=3, help="rounds")
    add_machine_options(parser)
    args = parser.parse_args()
    if unknown := set(args.tables) - set(SIDES):
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(SIDES)}")
    where = f"{platform.machine()}, {torch.get_num_threads()} threads"
    where = where if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"{args.shape}, {args.dtype}, on {where}, PyTorch {torch.__version__}: {args.rows} rows, "
          f"{args.repeats} rounds", flush=True)  # fmt: skip

    # The sides take turns, as the machine may be busier now than later.
    for table in args.tables or SIDES:
        runs = {side: [] for side in SIDES[table]}
        for turn in range(1, args.repeats + 1):
            for side, results in runs.items():
                results.append(measure(table, side, args))
                words = results[-1].get("why") or f"{results[-1]['rate']:,.0f} tokens/s"
                say(f"{table}, round {turn}, {side}: {words}")
        print(f"\n| {table} | {HEAD} |\n|" + " --- |" * 6)
        for side, results in runs.items():
            line = " | ".join(cells(side, results, runs[next(iter(runs))]))
            print(f"| {line} |", flush=True)


if __name__ == "__main__":
    run_script(main)
