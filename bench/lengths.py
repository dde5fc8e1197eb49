"""Write lengths.json: how many tokens GSM8K's prompts and answers have, so that no data are needed.

    python bench/lengths.py train.jsonl test.jsonl tokenizer.model

One pair (prompt, answer with EOS) a row, in file order: the first 640 training rows, the whole test
split. Llama-2's tokenizer and chat template, the task's system prompt.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.chat import encode_chat
from lookahead.files import load_tokenizer
from lookahead.tasks import TASKS, read_pairs

train, test, tokenizer = *sys.argv[1:3], load_tokenizer(sys.argv[3])
lengths = {}
for name, path, limit in (("train", train, 640), ("test", test, None)):
    task = TASKS["gsm8k"]
    pairs = read_pairs(path, task)[0][:limit]
    coded = [encode_chat(tokenizer, "llama-2", task.system, *pair) for pair in pairs]
    lengths[name] = [[start, len(ids) - start] for ids, start in coded]
(pathlib.Path(__file__).parent / "lengths.json").write_text(json.dumps(lengths) + "\n")
