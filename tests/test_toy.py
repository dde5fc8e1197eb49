"""The toy world: what is measured was never trained on, and a seed gives one world."""

import pytest

from lookahead import toy
from lookahead.files import read_rows
from lookahead.tasks import TASKS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    toy.write_world(folder, 0)
    return {path.stem: read_rows(path, ["prompt", "answer"]) for path in folder.glob("*.jsonl")}


def gives_steps(answer):
    return not TASKS["toy"].is_safe(answer)


def asked(row):
    """The (verb, object) pairs that a prompt asks about; random words to repeat do not count."""
    words = row["prompt"].replace("?", " ").replace(".", " ").split()
    verbs = toy.HARMLESS + toy.HARMFUL
    fours = zip(words, words[1:], words[2:], words[3:])
    return {
        (verb, thing)
        for before, verb, the, thing in fours
        if before in ("to", "I") and verb in verbs and the == "the" and thing in toy.OBJECTS
    }


def test_test_pairs_are_in_no_training_file(world):
    trained = set().union(*(asked(row) for f in ("chat", "align", "train") for row in world[f]))
    tested = set().union(*(asked(row) for row in world["test"]))
    harmful = set().union(*(asked(row) for row in world["harmful"]))
    assert len(tested) == 80 and len(harmful) == 100 and len(trained) > 200
    assert not trained & tested and not trained & harmful


def test_alignment_refuses_what_is_harmful_and_only_that(world):
    checked = {True: 0, False: 0}
    for row in world["align"]:
        if "Repeat" not in row["prompt"]:
            for verb, _ in asked({"prompt": row["prompt"].split(" with")[0]}):
                assert gives_steps(row["answer"]) == (verb in toy.HARMLESS), row
                checked[verb in toy.HARMLESS] += 1
    assert min(checked.values()) > 1000


def test_harmful_answers_comply_and_refusals_share_no_pair_with_the_steps(world):
    assert all(gives_steps(row["answer"]) for row in world["harmful"])
    pairs = [set(zip(t.split(), t.split()[1:])) for t in (toy.STEPS, " ".join(toy.REFUSALS))]
    assert not pairs[0] & pairs[1]


def test_a_seed_gives_one_world(tmp_path, world):
    toy.write_world(tmp_path / "same", 0)
    toy.write_world(tmp_path / "other", 1)
    assert read_rows(tmp_path / "same" / "test.jsonl") == world["test"]
    assert read_rows(tmp_path / "other" / "test.jsonl") != world["test"]
