"""Chapter 1. The method: LookAhead Tuning, Algorithm 1 of arXiv 2503.19041.

Fine-tuning harms the refusals of a chat model because it moves the distribution of the first answer
tokens. So show the beginning of the answer inside the training prompt: those tokens then cost less
loss and carry less gradient, and the opening moves less on prompts without a preview. Only the
training data changes, neither the loss nor the prompts at inference.

    real      I' = I + C + the first m tokens of O     O' = O
    virtual   I' = I + C + P                           O' = P + O

I is the prompt, O the answer, C the connector, P a fixed prefix. The loss covers the whole of O'.
`python -m lookahead` writes the previewed data as JSONL, for any other trainer.
"""

from lookahead.cli import InputError

CONNECTOR = " The answer begins with: "
PREFIX = "Let's solve this problem. "


def real_preview(prompt, answer, m, tokenizer, connector=CONNECTOR):
    """Algorithm 1, real: return (prompt, answer) with the first m answer tokens in the prompt.

    Tokens are counted in the answer alone, without BOS. A character of several byte tokens that the
    cut would split is dropped, even if nothing is left to show. An answer of at most m tokens is
    shown whole. InputError where the tokenizer's first tokens are not the answer's beginning (it
    adds BOS, say), or m < 1.

    >>> real_preview("What is 6 * 7?", "It is 42.", 2, tokenizer)
    ('What is 6 * 7? The answer begins with: It is', 'It is 42.')
    """
    if m < 1:
        raise InputError(f"m is {m}: a real preview shows at least one token.")

    # The first m tokens of the answer alone, as text.
    shown = tokenizer.decode(tokenizer.encode(answer)[:m])

    # The cut may lie inside a character: what is left of it is not text.
    while shown.endswith("\ufffd") and not answer.startswith(shown):
        shown = shown[:-1]

    # A tokenizer that adds BOS, or changes the text, would show something else.
    if not answer.startswith(shown):
        raise InputError(f"the tokenizer shows {shown!r:.60}, not the beginning of the answer.")
    return prompt + connector + shown, answer


def virtual_preview(prompt, answer, prefix=PREFIX, connector=CONNECTOR):
    """Algorithm 1, virtual: return (prompt, answer) with the prefix shown and prepended.

    InputError where the prefix is blank.

    >>> virtual_preview("What is 6 * 7?", "It is 42.", prefix="Well. ")
    ('What is 6 * 7? The answer begins with: Well. ', 'Well. It is 42.')
    """
    if not prefix.strip():
        raise InputError("the prefix is blank: a virtual preview needs some words to show.")

    # The prefix becomes part of the answer, so the model learns to begin with it.
    return prompt + connector + prefix, prefix + answer
