"""The options of train.py; each default with its source."""

import argparse

from lookahead.chat import TEMPLATES
from lookahead.commands import InputError, Parser, fraction, positive, words
from lookahead.preview import CONNECTOR, PREFIX
from lookahead.runs import METHODS
from lookahead.tasks import TASKS


def _build_parser(description):
    parser = Parser(description)
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="(toy)")
    add("--data", help="training rows, JSONL or a JSON array; the toy world brings its own")
    add("--prompt-field", type=words, metavar="NAME", help="of the rows (the task's own)")
    add("--answer-field", type=words, metavar="NAME", help="of the rows (likewise)")
    add("--limit", type=positive, help="use only the first N rows")
    add("--model", help="directory of the seed model, in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, help="chat template (what the model's directory shows)")
    add("--system", metavar="TEXT", help="system prompt of training (the task's; '' is none)")
    add("--world", type=int, default=0, help="number of the toy world (0)")
    add = parser.add_argument_group("the method; several values make a run each").add_argument
    add("--method", nargs="+", choices=METHODS, default=METHODS[:3], help="(the first 3)")
    add("--m", type=positive, nargs="+", default=[6], help="shown by a real preview (6: the paper)")
    add("--prefix", type=words, nargs="+", default=[PREFIX], help="P (the default: its code's)")
    add("--connector", nargs="+", default=[CONNECTOR], help="C (the default: the paper's)")
    add = parser.add_argument_group("the recipe of all methods (the toy has its own)").add_argument
    add("--lr", type=fraction, nargs="+", help="learning rate, one or several (2e-5: the paper)")
    add("--epochs", type=positive, help="passes over the data (3: the paper)")
    add("--batch-size", type=positive, help="examples a step (64: the paper)")
    add("--schedule", choices=["linear", "cosine"], help="fall of the rate (linear: its code)")
    add("--beta1", type=fraction, help="of AdamW (0.5: hard-coded in its code)")
    add("--max-length", type=positive, help="tokens; longer rows are left out (512: its code)")
    add("--lora", type=positive, metavar="RANK", help="adapters; raise --lr (none: the paper)")
    add("--seeds", type=positive, default=1, help="runs of each method, with seeds 0, 1, ... (1)")
    add = parser.add_machine_options()
    add("--out", default="out", help="folder of all output (out)")
    add("--save-every", type=positive, metavar="N", help="save every N steps (7B: 63 GiB, twice)")
    add("--resume", action="store_true", help="take up an interrupted command where it was saved")
    add("--recompute", action=argparse.BooleanOptionalAction, help="compute blocks twice, for less "
        "memory (yes, but no on a CPU)")  # fmt: skip
    add("--token-budget", type=positive, help="padded tokens of a micro-batch: costs memory, "
        "changes nothing but rounding (1024 on a CPU, else 16384)")  # fmt: skip
    return parser


def read_options(description):
    """Return the options given to train.py, with the defaults that depend on others filled in."""
    args = _build_parser(description).parse_args()
    on_cpu = args.device.startswith("cpu")
    args.token_budget = args.token_budget or (1024 if on_cpu else 16384)
    args.recompute = not on_cpu if args.recompute is None else args.recompute
    if (args.task != "toy" or args.model) and not args.data:
        raise InputError("--data is missing: give the file of training rows.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    if args.scratch and (args.model or args.task == "toy"):
        raise InputError("--scratch builds a seed model itself: not with --model or the toy task.")
    return args
