"""What is read and written: rows of data, tokenizers, safetensors weights, model directories."""

from lookahead.files.checkpoint import (
    count_parameters,
    load_model,
    read_companions,
    read_weights,
    save_model,
)
from lookahead.files.config import check_end, read_config
from lookahead.files.resume import ResumeFile
from lookahead.files.rows import read_json
from lookahead.files.tokenizers import load_tokenizer
from lookahead.files.writing import write_json
