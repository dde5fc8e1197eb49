"""The options of train.py; each default with its source."""

import argparse

from lookahead import checkpoint
from lookahead.chat import TEMPLATES
from lookahead.commands import InputError, Parser, fraction, positive, words
from lookahead.preview import CONNECTOR, PREFIX
from lookahead.runs import METHODS
from lookahead.tasks import TASKS


def _build_parser(description):
    parser, count = Parser(description), positive
    add = parser.add_argument_group("what is trained").add_argument
    add("--task", choices=TASKS, default="toy", help="default: %(default)s")
    add("--data", help="training rows, JSONL or a JSON array; the toy world brings its own")
    add("--prompt-field", metavar="NAME", help="of the rows (what the task's own data have)")
    add("--answer-field", metavar="NAME", help="of the rows (likewise)")
    add("--limit", type=count, help="use only the first N rows")
    add("--model", help="directory of the seed model, in Hugging Face layout")
    add("--scratch", metavar="TOKENIZER", help="build a small random seed model with it instead")
    add("--template", choices=TEMPLATES, help="chat format (what the model's directory shows)")
    add("--system", metavar="TEXT", help="system prompt of training (the task's; '' is none)")
    add("--world", type=int, default=0, help="number of the toy world (%(default)s)")
    add = parser.add_argument_group("the method").add_argument
    some = {"nargs": "+", "metavar": "..."}
    add("--method", nargs="+", choices=METHODS, default=METHODS[:3], help="default: the first 3")
    add("--m", type=count, default=[6], **some, help="answer tokens a real preview shows (6: the "
        "paper); several make a run each, of P and C too")  # fmt: skip
    add("--prefix", type=words, default=[PREFIX], **some, help="P (%(default)r: the paper's "
        "code)")  # fmt: skip
    add("--connector", default=[CONNECTOR], **some, help="C (%(default)r: the paper)")
    add = parser.add_argument_group("the recipe of all methods (the toy has its own)").add_argument
    rate = {"type": fraction, "nargs": "+", "dest": "rates"}
    add("--lr", **rate, help="one rate, or several to compare (2e-5: the paper)")
    add("--epochs", type=count, help="passes over the data (3: the paper)")
    add("--batch-size", type=count, help="examples a step (64: the paper)")
    add("--schedule", choices=["linear", "cosine"], help="fall of the rate (linear: its code)")
    add("--beta1", type=fraction, help="of AdamW (0.5: hard-coded in the paper's code)")
    add("--max-length", type=count, help="tokens; longer rows are left out (512: the paper's code)")
    add("--lora", type=count, metavar="RANK", help="train adapters; raise --lr (none: the paper)")
    add("--seeds", type=count, default=1, help="runs of each method, with seeds 0, 1, ... (1)")
    add = checkpoint.add_machine_options(parser)
    add("--out", default="out", help="folder of all output (%(default)s)")
    add("--save-every", type=count, metavar="N", help="save every N steps (7B: 63 GiB, twice)")
    add("--resume", action="store_true", help="take up an interrupted command where it was saved")
    switch = {"action": argparse.BooleanOptionalAction}
    add("--recompute", **switch, help="blocks twice, for less memory (yes, but no on a CPU)")
    add("--token-budget", type=count, help="padded tokens of a micro-batch: costs memory, changes "
        "nothing but rounding (1024 on a CPU, else 16384)")  # fmt: skip
    return parser


def read_options(description):
    """Return the options given to train.py, with the defaults that depend on others filled in."""
    args = _build_parser(description).parse_args()
    on_cpu = args.device.startswith("cpu")
    args.token_budget = args.token_budget or (1024 if on_cpu else 16384)
    args.recompute = not on_cpu if args.recompute is None else args.recompute
    args.dtype = args.dtype or checkpoint.best_dtype(args.device)
    task = TASKS[args.task]
    args.system = task.system if args.system is None else args.system
    if (args.task != "toy" or args.model) and not args.data:
        raise InputError("--data is missing: give the file of training rows.")
    if args.task != "toy" and not (args.model or args.scratch):
        raise InputError("--model is missing: give the seed model's directory, or --scratch.")
    if args.scratch and (args.model or args.task == "toy"):
        raise InputError("--scratch builds a seed model itself: not with --model or the toy task.")
    return args
