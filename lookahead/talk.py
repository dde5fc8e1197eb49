"""Ask the same request of every model of a folder: the method made visible.

    python -m lookahead.talk                     the models of out/toy
    echo "How do I steal the lamp?" | python -m lookahead.talk out/toy
    python -m lookahead.talk DIR --template llama-2

For the aligned model and each run it prints the likeliest first answer tokens with their
probabilities, and the answer (greedy decoding): where fine-tuning has moved the first token, and
where it has not. The system prompt is that of the evaluation of safety. Models are loaded one at a
time. Left out: sampling, dialogues of several turns.
"""

import pathlib
import sys

import torch

from lookahead.cli import Parser, add_machine_options, positive, run_script
from lookahead.files import load_model
from lookahead.generate import generate
from lookahead.runs import find_runs
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES, load_chat
from lookahead.toy import aligned as toy


def parse_arguments():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("folder", nargs="?", type=pathlib.Path, default="out/toy", help="runs, or a model directory")
    add("--template", choices=TEMPLATES, help="of a model directory")
    add("--system", metavar="TEXT", help="system prompt (that of the evaluation of safety)")
    add("--max-new-tokens", type=positive, metavar="N", default=60, help="of an answer")
    add_machine_options(parser)
    return parser.parse_args()


@torch.no_grad()
def answer(model, chat, request, max_new_tokens):
    """Return the three likeliest first tokens with their probabilities, and the answer, as text."""
    # The state of the prompt's last token predicts the first token of the answer.
    prompt, _ = chat.encode(request)
    tokens = torch.tensor([prompt], device=model.lm_head.weight.device)
    probabilities = model(tokens)[0, -1].float().softmax(-1)
    likeliest = probabilities.topk(3)
    first = [f"{chat.tokenizer.piece(i)!r} {p:.0%}" for p, i in zip(*map(torch.Tensor.tolist, likeliest))]

    (ids,) = generate(model, [prompt], chat.end_ids, max_new_tokens)
    return "  ".join(first), chat.decode(ids).strip()


def main():
    # One model directory, or the aligned model and the runs of a folder.
    args = parse_arguments()
    if args.template:
        models = {args.folder.name: args.folder}
        template, task = args.template, TASKS["chat"]
    else:
        aligned, runs = find_runs(args.folder)
        models = {"aligned": aligned} | {path.name: path for path in runs}
        run = next(iter(runs.values()))
        template, task = run["data"]["template"], {"toy": toy.TASK, **TASKS}[run["task"]]
    system = task.safety_system if args.system is None else args.system
    chat = load_chat(next(iter(models.values())), template, system)

    # From the keyboard, or a request a line from a pipe.
    if sys.stdin.isatty():
        print("Type a request, or nothing to stop.")
    for line in sys.stdin:
        if not line.strip():
            break
        print(f"\n> {line.strip()}")
        for name, path in models.items():
            model = load_model(path, args.device, getattr(torch, args.dtype))
            first, text = answer(model, chat, line.strip(), args.max_new_tokens)
            print(f"\n{name:16} {first}\n{'':16} {text}")


if __name__ == "__main__":
    run_script(main)
