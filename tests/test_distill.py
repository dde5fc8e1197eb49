"""SDFT: which rewrites are used, and how many."""

import pytest
from conftest import tiny

from lookahead import distill
from lookahead.tasks import TASKS, same_last_number


@pytest.mark.parametrize(
    "rewrite, kept",
    [
        ("She has 6 * 7 = 42 pens.", True),
        ("She has 42.0 pens, i.e. 1,000 - 958 = 42", True),
        ("", False),
        ("She has 41 pens.", False),
        ("She has many pens.", False),
        ("My response: she has 42 pens.", False),
        ("As the Reference Answer says, 42.", False),
        ("Your turn! 42", False),
    ],
)
def test_which_rewrites_are_kept(rewrite, kept):
    assert distill.is_kept(rewrite, "6 * 7 = 42\n#### 42", TASKS["gsm8k"]) is kept


def test_the_last_number():
    assert same_last_number("so 1,300.", "#### 1300") and same_last_number("-5", "x\n#### -5")
    assert not same_last_number("no number", "nor here #### 3")


def test_rewrites_replace_answers(tokenizer, monkeypatch):
    model, asked = tiny(400), {}
    said = ["It is 42.", "It is 41.", "It is 42. " * 40, " "]

    def speak(model, prompts, eos, limit, batch_size, name):
        assert batch_size * max(map(len, prompts)) < 2 * 1024
        asked["prompts"] = [tokenizer.decode(ids) for ids in prompts]
        return [tokenizer.encode(text)[:limit] for text in said]

    monkeypatch.setattr(distill, "generate", speak)
    model.config = model.config._replace(max_position_embeddings=400)
    pairs = [(f"What is {i} * 7?", "Hello. #### 42") for i in range(4)]
    pairs.append(("Hello " * 400, "no room #### 42"))
    task = TASKS["gsm8k"]
    new, share = distill.rewrite_answers(model, tokenizer, "llama-2", "", pairs, task, 1024)
    assert new == [(pairs[0][0], "It is 42."), *pairs[1:]] and share == 1 / 5
    assert len(asked["prompts"]) == 4
    assert "What is 2 * 7?" in asked["prompts"][2] and "Hello. #### 42" in asked["prompts"][2]


def test_unfinished_rewrites_are_not_used(tokenizer, monkeypatch):
    model, task = tiny(400), TASKS["chat"]._replace(max_new_tokens=3)
    model.config = model.config._replace(max_position_embeddings=400)
    ids = tokenizer.encode("Hello. What is it?")
    monkeypatch.setattr(distill, "generate", lambda *_, **__: [ids[:3], ids[:2]])
    pairs = [("Hi.", "Well.")] * 2
    new, share = distill.rewrite_answers(model, tokenizer, "llama-2", "", pairs, task, 1024)
    assert share == 0.5 and new == [pairs[0], ("Hi.", tokenizer.decode(ids[:2]))]
