"""The chat formats of models, by name. A fork adds its chat model here.

Each is the model's own Jinja template written out for one exchange (chat.py). Which one a model was
trained with cannot be told from its files with certainty, so it is asked for and checked against
the tokenizer: each special token of the template must be one of the tokenizer, and the other way.
"""

from lookahead.chat import SPECIAL, Template
from lookahead.cli import InputError

CHATML = Template("", "<|im_start|>system\n{system}<|im_end|>\n",
                  "<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
                  "<|im_end|>")  # fmt: skip
LLAMA_3 = Template("<|begin_of_text|>",
                   "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
                   "<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n",
                   "<|eot_id|>")  # fmt: skip

# By name; a fork adds its chat model here.
TEMPLATES = {
    "llama-2": Template("<s>[INST] ", "<<SYS>>\n{system}\n<</SYS>>\n\n", "{user} [/INST]", "</s>"),
    "llama-3": LLAMA_3,
    "llama-3.1": Template(  # 3.2 and 3.3 too, with this date
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
        "{system}", "<|eot_id|>" + LLAMA_3.user, "<|eot_id|>"),
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
    from lookahead.chat import Chat
    from lookahead.files import check_end, load_tokenizer

    c = Chat(load_tokenizer(folder), TEMPLATES[name], system)
    check_template(name, c.tokenizer)
    check_end(folder, c.tokenizer, c.template.end)
    return c


def check_template(name, tokenizer):
    """Reject a template whose special tokens are not those of the tokenizer."""
    form = TEMPLATES[name]
    text = form.begin + form.system + form.user + form.end
    wrong = [token for token in SPECIAL.findall(text) if tokenizer.special(token) is None]
    wrong += [token for token in tokenizer.specials if token in SPECIAL.sub("\0", text)]
    if wrong:
        is_one = "a" if wrong[0] in tokenizer.specials else "no"
        raise InputError(f"--template {name} does not fit this tokenizer, of which {wrong[0]} is "
                         f"{is_one} special token; give the template that the model was trained "
                         "with.")  # fmt: skip
