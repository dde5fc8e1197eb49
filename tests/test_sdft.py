"""SDFT: which rewrites are used, and how many."""

import pytest
from conftest import tiny

from lookahead.baselines.sdft import is_kept, rewrite_answers
from lookahead.chat import Chat
from lookahead.files.rows import Pair
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES


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
    assert is_kept(rewrite, "6 * 7 = 42\n#### 42", TASKS["gsm8k"]) is kept


@pytest.fixture
def rewrite(tokenizer, monkeypatch, capsys):
    """Rewrite pairs with what the model is made to say; return the result and the requests."""

    def run(pairs, said, task=TASKS["gsm8k"], fits=lambda pair: True):
        asked = []

        def speak(model, prompts, end_id, limit, batch_size, name):
            assert batch_size * max(map(len, prompts)) < 2 * 1024
            asked.extend(tokenizer.decode(ids) for ids in prompts)
            return [tokenizer.encode(text)[:limit] for text in said]

        monkeypatch.setattr("lookahead.baselines.sdft.generate", speak)
        model = tiny(tokenizer.size)
        model.config = model.config._replace(max_position_embeddings=400)
        chat = Chat(tokenizer, TEMPLATES["llama-2"])
        result, told = rewrite_answers(pairs, model, chat, task, fits, 1024)
        assert f"{told['rewritten']:.1%} of the rewrites" in capsys.readouterr().err
        return result, told["rewritten"], asked

    return run


def test_rewrites_replace_answers(rewrite):
    pairs = [Pair(f"What is {i} * 7?", "Hello. #### 42", "Be kind.", "line 1") for i in range(4)]
    pairs.append(Pair("Hello " * 400, "no room #### 42"))
    said = ["It is 42.", "It is 41.", "It is 42. " * 40, " "]  # the third is not finished
    result, share, asked = rewrite(pairs, said)
    assert result == [pairs[0]._replace(answer="It is 42."), *pairs[1:]] and share == 1 / 5
    assert len(asked) == 4 and "What is 2 * 7?" in asked[2] and "Hello. #### 42" in asked[2]
    assert "Be kind." in asked[0]  # the row's own system message


def test_rewrites_that_are_cut_or_too_long_are_not_used(rewrite, tokenizer):
    cut = len(tokenizer.encode("Hello. What is it?")) - 1
    pairs = [Pair("Hi.", "Well.")] * 3
    said = ["Hello. What is it?", "Hello.", "It is."]
    task = TASKS["chat"]._replace(max_new_tokens=cut)
    result, share, _ = rewrite(pairs, said, task, fits=lambda pair: pair.answer != "It is.")
    assert share == 1 / 3 and result == [pairs[0], Pair("Hi.", "Hello."), pairs[2]]
