"""SDFT: which rewrites are used, and how many."""

from conftest import tiny

from lookahead.baselines.sdft import is_kept, rewrite_answers
from lookahead.chat import Chat
from lookahead.files.rows import Pair
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES


def test_which_rewrites_are_kept():
    kept = ["She has 6 * 7 = 42 pens.", "She has 42.0 pens, i.e. 1,000 - 958 = 42"]
    others = ["", "She has 41 pens.", "She has -42", "many", "My response: she has 42 pens."]
    others += ["As the Reference Answer says, 42.", "Your turn! 42"]
    found = [is_kept(text, "so\n#### 42", TASKS["gsm8k"]) for text in kept + others]
    assert found == [True] * 2 + [False] * 7


def test_rewrites_replace_answers(tokenizer, monkeypatch, capsys):
    pairs = [Pair(f"What is {i} * 7?", "Hello. #### 42", "Be kind.", "line 1") for i in range(5)]
    pairs.append(Pair("Hello " * 400, "no room #### 42"))
    # The first is kept; another number, not finished, blank, too long to train on.
    said = ["It is 42.", "It is 41.", "It is 42. " * 40, " ", "Well. It is 42."]

    def speak(model, prompts, end_id, limit, batch_size, name):
        asked = [tokenizer.decode(ids) for ids in prompts]
        assert len(asked) == 5 and all("Be kind." in text for text in asked)
        assert "What is 2 * 7?" in asked[2] and "Hello. #### 42" in asked[2]
        assert batch_size * max(map(len, prompts)) < 2 * 1024
        return [tokenizer.encode(text)[:limit] for text in said]

    monkeypatch.setattr("lookahead.baselines.sdft.generate", speak)
    model = tiny(tokenizer.size)
    model.config = model.config._replace(max_position_embeddings=400)
    chat = Chat(tokenizer, TEMPLATES["llama-2"])
    limit = len(tokenizer.encode("It is 42. " * 3 + "It is 42."))  # cut there, it still ends in 42
    task = TASKS["gsm8k"]._replace(max_new_tokens=limit)
    arguments = pairs, model, chat, task, lambda pair: pair.answer != said[4], 1024
    result, told = rewrite_answers(*arguments)
    assert result == [pairs[0]._replace(answer="It is 42."), *pairs[1:]]
    assert told == {"rewritten": 1 / 6} and "16.7% of the rewrites" in capsys.readouterr().err
