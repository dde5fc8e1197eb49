"""Write lengths.json: how many tokens GSM8K's prompts and answers have, so that no data are needed.

    python bench/lengths.py train.jsonl test.jsonl tokenizer.model

One pair (prompt, answer with EOS) a row, in file order: the first 640 training rows, the whole test
split. Llama-2's tokenizer and chat template, the task's system prompt.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.tasks import TASKS, read_pairs
from lookahead.templates import load_chat

task = TASKS["gsm8k"]
chat = load_chat(sys.argv[3], "llama-2", task.system)
lengths = {}
for name, path, limit in (("train", sys.argv[1], 640), ("test", sys.argv[2], None)):
    pairs = read_pairs(path, task)[:limit]
    coded = [chat.encode(pair.prompt, pair.answer) for pair in pairs]
    lengths[name] = [[start, len(ids) - start] for ids, start in coded]
(pathlib.Path(__file__).parent / "lengths.json").write_text(json.dumps(lengths) + "\n")
