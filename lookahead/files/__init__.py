"""What is read and written: rows of data, tokenizers, safetensors weights, model directories."""

from lookahead.files.checkpoint import load_model, read_weights, save_model  # noqa: F401
from lookahead.files.config import check_end, read_config  # noqa: F401
from lookahead.files.resume import ResumeFile  # noqa: F401
from lookahead.files.rows import read_json, write_json  # noqa: F401
from lookahead.files.tokenizers import load_tokenizer  # noqa: F401
