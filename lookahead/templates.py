"""The chat formats of models, by name. A fork adds its chat model here.

Each is the model's own Jinja template written out for one exchange (chat.py); `llama-2` is the code
of the paper, which takes no white space off a text, as the official one does (`strip`). Which one a
model was trained with cannot be told from its files with certainty, so it is asked for and checked
against the tokenizer and the directory (`load_chat`). docs/models.md says which is for which model.
"""

import pathlib
import re

from lookahead.chat import SPECIAL, Chat, Template
from lookahead.cli import InputError
from lookahead.files.config import check_end, read_fields, reject_adapter
from lookahead.files.rows import read_text
from lookahead.files.tokenizers import load_tokenizer

CHATML = Template("", "<|im_start|>system\n{system}<|im_end|>\n",
                  "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
                  "<|im_end|>")  # fmt: skip
HEAD = "<|start_header_id|>{}<|end_header_id|>\n\n".format
LLAMA_3 = Template("<|begin_of_text|>", HEAD("system") + "{system}<|eot_id|>",
                   HEAD("user") + "{user}<|eot_id|>" + HEAD("assistant"),
                   "<|eot_id|>", trims=True)  # fmt: skip
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

# By name; a fork adds its chat model here.
TEMPLATES = {
    "llama-2": Template("<s>[INST] ", "<<SYS>>\n{system}\n<</SYS>>\n\n", "{user} [/INST]", "</s>"),
    "llama-3": LLAMA_3,
    "llama-3.1": LLAMA_3._replace(  # 3.2 and 3.3 too, with this date; a system block in any case
        begin=LLAMA_3.begin + HEAD("system") + DATES, system="{system}",
        user="<|eot_id|>" + LLAMA_3.user),
    "mistral": Template("<s>[INST] ", "{system}\n\n", "{user} [/INST]", "</s>"),  # 0.1 and 0.2
    "vicuna": Template("<s>", "{system} ", "USER: {user} ASSISTANT:", "</s>"),
    "zephyr": Template("", "<|system|>\n{system}</s>\n",  # TinyLlama-Chat too
                       "<|user|>\n{user}</s>\n<|assistant|>\n", "</s>"),
    "chatml": CHATML,
    "smollm2": CHATML._replace(
        default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2.5": CHATML._replace(
        default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": CHATML._replace(user=CHATML.user + "<think>\n\n</think>\n\n"),  # without thinking
}  # fmt: skip


def load_chat(folder, name, system=""):
    """Return the Chat of a model directory under template `name`; InputError if they do not fit.

    Of a tokenizer's file, what lies beside it is asked likewise; what is absent says nothing.
    """
    path = pathlib.Path(folder)
    folder = path if path.is_dir() else path.parent
    reject_adapter(folder)
    tokenizer = load_tokenizer(path)

    # The model's own template has a file, or is a field: a text, or a list of several.
    own = str(read_fields(folder / "tokenizer_config.json").get("chat_template") or "")
    if (folder / "chat_template.jinja").is_file():
        own = read_text(folder / "chat_template.jinja")
    check_template(name, tokenizer, own)

    # All ids must have an embedding, and a turn must end as in the model's own files.
    ends = check_end(folder, tokenizer, TEMPLATES[name].end)
    vocab_size = read_fields(folder / "config.json").get("vocab_size")
    if isinstance(vocab_size, int) and vocab_size < tokenizer.size:
        raise InputError(f"{folder}: its tokenizer has {tokenizer.size} ids, its config.json a "
                         f"vocab_size of {vocab_size}; use the model's own one.")  # fmt: skip
    return Chat(tokenizer, TEMPLATES[name], system, tuple(ends))


def check_template(name, tokenizer, own=""):
    """Reject a template that the tokenizer or the model's own Jinja template contradicts.

    The special tokens must be those of the tokenizer. Of `own` a few words are asked: whether it
    begins with BOS, when it opens a think block, and what it says without a system prompt.
    """
    form = TEMPLATES[name]
    text = form.begin + form.system + form.user + form.end
    missing = [token for token in SPECIAL.findall(text) if tokenizer.special(token) is None]
    wrong = [f"{token} is no special token" for token in missing]
    more = [token for token in tokenizer.specials if token in SPECIAL.sub("\0", text)]
    wrong += [f"{token} is a special token" for token in more]
    if own:
        marks = ["Cutting Knowledge Date", *(each.default_system for each in TEMPLATES.values())]
        wrong += [mark for mark in marks if (mark in own) != (mark in text + form.default_system)]
        begins = bool(re.search(r"bos_token|<s>|<\|begin_of_text\|>", own))
        if begins != bool(SPECIAL.match(form.begin)):
            wrong.append("BOS at the beginning")
        if "<think>" in text and "enable_thinking" not in own or re.search(r"nt\\+n<think>", own):
            wrong.append("the think block")
    if wrong:
        raise InputError(f"--template {name} does not fit this tokenizer ({wrong[0]}); give the "
                         "one of the model (docs/models.md).")  # fmt: skip
