"""Seed models that are made here: the toy world's small chat model, or a random one.

The toy world's is trained from nothing on the files that `toy.py` writes, by the training loop that
fine-tunes. A random one (`--scratch`) serves to try the whole way on real data without a chat model
at hand; it shows nothing about safety.
"""

import io
import itertools

import sentencepiece
import torch

from lookahead import checkpoint, files, toy
from lookahead.chat import encode_chat
from lookahead.model import Config, Llama
from lookahead.tasks import TASKS, read_pairs


def build_seed_model(folder, args, train):
    """Return the directory FOLDER/seed of a seed model; make it when it is not there.

    `args` are the options of train.py and `train` is its training loop; the toy world's files are
    in FOLDER/data. One that the same options, data and packages made, by its `run.json`, is taken.
    """
    stages = toy.STAGES if args.task == "toy" else {}
    paths = {name: folder / "data" / f"{name}.jsonl" for name in stages}
    run = {"task": args.task, "method": "seed", "template": args.template or "llama-2"}
    run |= {"world": args.world, "config": toy.CONFIG, "vocabulary": toy.VOCABULARY}
    tokenizer = files.load_tokenizer(args.scratch) if args.scratch else None
    run |= {"tokenizer": args.scratch and files.sha256(args.scratch)}
    run |= {"sentencepiece": sentencepiece.__version__}
    run |= {name: recipe._asdict() for name, recipe in stages.items()}
    world = sorted((folder / "data").glob("*.jsonl")) if stages else []
    run |= {"data_sha256": files.sha256(*world), "torch": torch.__version__}
    folder = folder / "seed"
    if (folder / "run.json").exists() and files.read_json(folder / "run.json") == run:
        return folder
    pairs = {name: read_pairs(path, TASKS["toy"])[0] for name, path in paths.items()}
    if not tokenizer:
        texts = itertools.chain(*itertools.chain(*pairs.values()))
        tokenizer = train_tokenizer(texts, toy.VOCABULARY)
    torch.manual_seed(args.world)
    model = Llama(Config(vocab_size=tokenizer.vocab_size(), **toy.CONFIG)).to(args.device)
    log = []
    for name, recipe in stages.items():
        examples = [encode_chat(tokenizer, run["template"], "", *pair) for pair in pairs[name]]
        log += train(model, examples, recipe, 0, f"seed model: {name}", args.token_budget)
    checkpoint.save(folder, model, tokenizer, run, log)
    return folder


def train_tokenizer(texts, vocab_size):
    """Return a byte-pair tokenizer of at most `vocab_size` pieces, trained on texts.

    No normalisation and a piece for every byte: `decode(encode(text))` gives the text back. With
    the words of Llama-2's chat template among the texts, a prompt takes fewer tokens.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=itertools.chain(texts, ["[INST] [/INST]"] * 100),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
