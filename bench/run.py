"""Speed and memory, beside Hugging Face's Trainer and generate, and one technique at a time.

    python bench/run.py                            a CPU, a model of 5.8 million parameters
    python bench/run.py --shape llama-2-7b         a GPU of 80 GB
    python bench/run.py training decoding          only these tables (the third is `ablation`)

Every figure is a median over rounds in which the sides take turns, each in a process of its own
(`sides.py`). All get the same random weights, token ids with GSM8K's lengths, batches of 64 and
optimizer settings. Tokens are real ones, without padding. A side that cannot run here (a package or
memory missing) says so. README.md tells how to read the tables.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys

import torch
from sides import ABLATIONS, SHAPES, SIDES


def measure(table, side, args):
    """Run a side once in its own process; return its figures, or why there are none."""
    job = vars(args) | {"table": table, "side": side}
    script = pathlib.Path(__file__).with_name("sides.py")
    run = subprocess.run([sys.executable, script, json.dumps(job)], capture_output=True, text=True)
    if run.returncode == 0:
        return json.loads(run.stdout.splitlines()[-1])
    return {"why": (run.stderr.strip().splitlines() or ["killed, perhaps for memory"])[-1][:80]}


def row(table, side, results, base):
    """Return a side's cells; how much slower than base it is, is the median over the rounds."""
    reasons = [result["why"] for result in results if "why" in result]
    if reasons:
        return [side, f"not run: {reasons[0]}"]
    median = {key: statistics.median(r[key] for r in results)
              for key in ("rate", "seconds", "peak", "used")}  # fmt: skip
    slower = [its.get("rate", float("nan")) / mine["rate"] for mine, its in zip(results, base)]
    cells = [side, f"{median['rate']:,.0f}", f"{statistics.median(slower):.2f}"]
    cells += [f"{median['seconds']:.1f}", f"{median['peak'] / 2**30:.2f}", f"{median['used']:.0%}"]
    cells += [results[0]["held"], results[0]["result"]]
    return cells + ([ABLATIONS[side][1]] if table == "ablation" else [])


def print_table(table, runs):
    head = [
        table,
        "real tokens/s",
        "times slower",
        "seconds",
        "GiB",
        "of matmul",
        "holds",
        "result",
    ]
    head += ["lines"] if table == "ablation" else []
    print("\n| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    base = next(iter(runs.values()))
    for side, results in runs.items():
        print("| " + " | ".join(map(str, row(table, side, results, base))) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(SIDES)} (all)")
    parser.add_argument("--shape", choices=SHAPES, help="of the model (CPU: cpu, GPU: tinyllama)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="as train.py chooses")
    parser.add_argument("--rows", type=int, help="examples (CPU: 128, GPU: 640)")
    parser.add_argument("--batch-size", type=int, default=64, help="prompts decoded at a time (64)")
    parser.add_argument("--token-budget", type=int, help="as in train.py")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (%(default)s)")
    args = parser.parse_args()
    if unknown := set(args.tables) - set(SIDES):
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(SIDES)}")
    on_cpu = args.device == "cpu"
    args.shape = args.shape or ("cpu" if on_cpu else "tinyllama")
    args.dtype = args.dtype or ("float32" if on_cpu else "bfloat16")
    args.rows = args.rows or (128 if on_cpu else 640)
    args.token_budget = args.token_budget or (1024 if on_cpu else 4096)
    where = f"{platform.machine()}, {torch.get_num_threads()} threads"
    where = where if on_cpu else torch.cuda.get_device_name()
    print(f"{args.shape}, {args.dtype}, on {where}, PyTorch {torch.__version__}: {args.rows} rows, "
          f"{args.repeats} rounds", flush=True)  # fmt: skip
    for table in args.tables or SIDES:
        runs = {side: [] for side in SIDES[table]}
        for turn in range(1, args.repeats + 1):
            for side, results in runs.items():
                results.append(measure(table, side, args))
                told = results[-1].get("why") or f"{results[-1]['rate']:,.0f} tokens/s"
                print(f"{table}, round {turn}, {side}: {told}", file=sys.stderr, flush=True)
        print_table(table, runs)


if __name__ == "__main__":
    main()
