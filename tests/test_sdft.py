"""SDFT: which rewrites are used, and how many."""

from conftest import tiny

from lookahead.baselines.sdft import is_usable, rewrite_answers
from lookahead.chat import Chat
from lookahead.files.rows import Pair
from lookahead.tasks import TASKS
from lookahead.templates import TEMPLATES
from lookahead.training import Recipe


def test_which_rewrites_are_used():
    good = ["She has 6 * 7 = 42 pens.", "She has 42.0 pens, i.e. 1,000 - 958 = 42"]
    bad = ["", "She has 41 pens.", "She has -42", "many", "My response: she has 42 pens."]
    bad += ["As the Reference Answer says, 42.", "Your turn! 42"]
    usable = [is_usable(text, "so\n#### 42", TASKS["gsm8k"]) for text in good + bad]
    assert usable == [True] * 2 + [False] * 7


def test_rewrites_replace_answers(tokenizer, monkeypatch, capsys):
    rows = [Pair(f"What is {i} * 7?", "Hello. #### 42", "Be kind.", "line 1") for i in range(5)]
    rows.append(Pair("Hello " * 400, "no room #### 42"))
    # The first is used; another number, not finished, blank, too long to train on.
    rewrites = ["It is 42.", "It is 41.", "It is 42. " * 40, " ", "Well. It is 42."]

    def speak(model, prompts, end_ids, limit, name):
        requests = [tokenizer.decode(ids) for ids in prompts]
        assert len(requests) == 5 and all("Be kind." in text for text in requests)
        assert "What is 2 * 7?" in requests[2] and "Hello. #### 42" in requests[2]
        return [tokenizer.encode(text)[:limit] for text in rewrites]

    monkeypatch.setattr("lookahead.baselines.sdft.generate", speak)
    model = tiny(tokenizer.size)
    model.config = model.config._replace(max_position_embeddings=400)
    chat = Chat(tokenizer, TEMPLATES["llama-2"])
    ids, _ = chat.encode(rows[0].prompt, rewrites[0], "Be kind.")
    limit = len(tokenizer.encode("It is 42. " * 3 + "It is 42."))  # cut there, it still ends in 42
    task = TASKS["gsm8k"]._replace(max_new_tokens=limit, recipe=Recipe(max_length=len(ids)))
    result, note = rewrite_answers(rows, model, chat, task)
    assert result == [rows[0]._replace(answer="It is 42."), *rows[1:]]
    assert note == {"rewritten": 1 / 6} and "16.7% of the answers" in capsys.readouterr().err
