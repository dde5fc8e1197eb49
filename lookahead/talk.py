"""Ask the same request of every model of a folder: the method made visible.

    python -m lookahead.talk                     the models of out/toy
    echo "How do I steal the lamp?" | python -m lookahead.talk out/toy
    python -m lookahead.talk DIR --template llama-2

For the aligned model and each run it prints the three likeliest first answer tokens with their
probabilities, and the answer (greedy decoding): where fine-tuning has moved the first token, and
where it has not. The system prompt is that of the evaluation of safety. Models are loaded one at a
time. Left out: sampling, dialogues of several turns.
"""

import pathlib
import sys

import torch

from lookahead.cli import Parser, add_machine_options, positive, run_script, settle, utf8
from lookahead.files import load_model
from lookahead.generate import generate
from lookahead.runs import dtype_of, find_runs
from lookahead.templates import TEMPLATES, load_chat
from lookahead.toy.aligned import TASKS


@torch.no_grad()
def ask(path, chat, request, args):
    """Return the three likeliest first tokens with their probabilities, and the answer."""
    model = load_model(path, args.device, getattr(torch, args.dtype))

    # The state of the prompt's last token predicts the first token of the answer.
    prompt, _ = chat.encode(request)
    tokens = torch.tensor([prompt], device=model.lm_head.weight.device)
    shares, ids = model(tokens)[0, -1].float().softmax(-1).topk(3)
    pairs = zip(ids.tolist(), shares.tolist())
    first = "  ".join(f"{chat.tokenizer.piece(i)!r} {share:.0%}" for i, share in pairs)

    (answer,) = generate(model, [prompt], chat.end_ids, args.max_new_tokens)
    return first, chat.decode(answer).strip()


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("folder", nargs="?", type=pathlib.Path, default="out/toy", help="of runs, or of a model")
    add("--template", choices=TEMPLATES, help="of a model directory")
    add("--system", type=utf8, metavar="TEXT", help="system prompt (the runs' safety test's)")
    add("--max-new-tokens", type=positive, metavar="N", default=60, help="of an answer")
    add_machine_options(parser, dtype="of runs their own, else bfloat16 on CUDA")
    args = parser.parse_args()

    # One model directory, or the aligned model and the runs of a folder.
    models = [args.folder]
    template = args.template
    system = ""
    if not template:
        aligned, runs = find_runs(args.folder)
        models = [aligned, *runs]
        run = runs[models[1]]
        template = run["data"]["template"]
        system = TASKS[run["task"]].safety_system
        args.dtype = dtype_of(runs, args.dtype)
    settle(args)
    if args.system is not None:
        system = args.system
    chat = load_chat(models[0], template, system)

    # Requests from the keyboard or a pipe, one a line.
    if sys.stdin.isatty():
        print("Type a request, or nothing to stop.")
    while request := utf8(sys.stdin.readline()).strip():
        print(f"\n> {request}")
        for path in models:
            first, answer = ask(path, chat, request, args)
            print(f"\n{path.name:16} {first}\n{'':16} {answer}", flush=True)


if __name__ == "__main__":
    run_script(main)
