"""Write a model directory with the toy's shape, random weights and a SentencePiece tokenizer.

    python bench/random_model.py tokenizer.model DIR

It tries the whole way on real data without a chat model at hand (--model DIR --template llama-2),
and shows nothing about safety.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.files import load_tokenizer, read_companions, save_model
from lookahead.toy import aligned

tokenizer = load_tokenizer(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
model = aligned.random_model(tokenizer.size, seed=0)
aligned.write_files(folder, model.config, tokenizer)
save_model(folder, model, {"method": "aligned"}, [], read_companions(folder))
