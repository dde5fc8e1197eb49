"""Chapter 2. Chat: text becomes token ids, and the index at which the answer begins.

One function, `Chat.encode`, serves training and generation, so a generation prompt is exactly a
training prompt. Special tokens enter as ids and never as text: a template is cut at them before any
prompt is put into it, so nothing a user writes can forge what a tokenizer marks as special. Prompt
and answer are encoded separately, so that it is known where the answer begins. Left out: dialogues
of several turns.
"""

import os
import re
import sys
import typing

from lookahead.cli import InputError

# What enters as an id where a template has it; all else there is text (Zephyr's <|user|> too).
SPECIAL = re.compile(r"(</?s>|</?think>|<\|im_start\|>|<\|im_end\|>|<\|begin_of_text\|>"
                     r"|<\|start_header_id\|>|<\|end_header_id\|>|<\|eot_id\|>)")  # fmt: skip


class Template(typing.NamedTuple):
    """A chat format: begin, then the system block where there is a system prompt, then user."""

    begin: str
    system: str
    user: str
    end: str  # ends the answer: it is in the loss, and decoding stops at it
    default_system: str = ""  # what the model's own template says where there is none
    trims: bool = False  # whether it takes outer white space off all texts

    @property
    def continues(self):
        """Whether the answer begins on a new line, rather than after a space."""
        return self.user.endswith("\n")


class Chat(typing.NamedTuple):
    """What makes ids of text and text of ids: a tokenizer, a template, a system prompt or ""."""

    tokenizer: object
    template: Template
    system: str = ""
    listed_ends: tuple = ()  # the ids at which the model's directory ends a turn

    @property
    def end_id(self):
        """The id that ends an answer in training."""
        return self.tokenizer.special(self.template.end)

    @property
    def end_ids(self):
        """All ids at which decoding stops, a set."""
        return {self.end_id, *self.listed_ends}

    def encode(self, prompt, answer=None, system=None):
        """Return (ids, start): prompt and answer as one list of ids, the answer from `start` on.

        The answer ends with the template's end token. Without an answer the ids are the prompt to
        generate from. `system` is a row's own system prompt, instead of the chat's; "" is an empty
        one, which models' own templates write out as a system block without text.

        >>> chat = Chat(tokenizer, TEMPLATES["llama-2"])
        >>> ids, start = chat.encode("Hi.", "Hello.")
        >>> tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:-1])
        ('[INST] Hi. [/INST]', 'Hello.')
        >>> ids[0] == tokenizer.special("<s>"), ids[-1] == tokenizer.special("</s>")
        (True, True)
        """
        # A row's own system prompt replaces the chat's; without both, the model's default or none.
        template = self.template
        if system is None:
            system = self.system or template.default_system or None
        if template.trims:
            prompt, answer, system = (text and text.strip() for text in (prompt, answer, system))

        # Cut the template at its special tokens; what lies between them is text.
        text = template.begin + ("" if system is None else template.system) + template.user
        ids = []
        for piece in SPECIAL.split(text):
            if SPECIAL.fullmatch(piece):
                ids.append(self.tokenizer.special(piece))
            elif piece:
                ids += self.tokenizer.encode(piece.format(system=system, user=prompt))
        start = len(ids)

        # The answer is encoded by itself: its ids decode to the whole answer.
        if answer is not None:
            if "<think>" in template.user:
                answer = answer.lstrip("\n")
                if re.search("</?think>", answer):
                    raise InputError("an answer with a think block needs --template chatml.")
            ids += self.tokenizer.encode(answer, template.continues)
            ids.append(self.end_id)
        return ids, start

    def decode(self, ids):
        """Return the text of an answer's ids."""
        return self.tokenizer.decode(ids, self.template.continues)


def view(tokenizer, ids, start):
    """Return the prompt's tokens and those in the loss as text, with bars between them."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    grey, green, end = ("\033[90m", "\033[32m", "\033[0m") if colour else ("", "", "")
    # Tokens keep their spaces, so that it shows where they begin.
    pieces = [tokenizer.piece(i) for i in ids]
    prompt = "|".join(pieces[:start])
    answer = "|".join(pieces[start:])
    return f"prompt       {grey}{prompt}{end}\nin the loss  {green}{answer}{end}"
