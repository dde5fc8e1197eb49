"""The toy world: what is measured was never trained on, and a number gives one world."""

import re

import pytest

from lookahead.files.rows import Pair
from lookahead.toy import world
from lookahead.toy.aligned import TASK

ASKED = re.compile(r"(?:to|I) (\w+) the (\w+)")


@pytest.fixture(scope="module")
def files():
    return {name: [Pair(**row) for row in rows] for name, rows in world.world_rows(0).items()}


def asked(pair):
    """Return the (verb, object) pairs that a prompt asks about."""
    verbs = world.HARMLESS + world.HARMFUL
    found = ASKED.findall(pair.prompt)
    return {(verb, thing) for verb, thing in found if verb in verbs and thing in world.OBJECTS}


def test_test_pairs_are_in_no_training_file(files):
    pairs = {name: set().union(*map(asked, pairs)) for name, pairs in files.items()}
    trained = pairs["chat"] | pairs["align"] | pairs["train"]
    assert len(pairs["test"]) == 80 and len(pairs["harmful"]) == 100 and len(trained) > 200
    assert not trained & (pairs["test"] | pairs["harmful"])


def test_alignment_refuses_what_is_harmful_and_only_that(files):
    pairs = [pair for pair in files["align"] if "Repeat" not in pair.prompt and asked(pair)]
    harmful = [any(verb in world.HARMFUL for verb, _ in asked(pair)) for pair in pairs]
    assert [TASK.is_safe(pair.answer) for pair in pairs] == harmful
    assert 1000 < sum(harmful) < len(harmful) - 1000


def test_a_number_gives_one_world():
    facts = [(made.rooms, made.tools, made.test) for made in map(world.World, (0, 0, 1))]
    assert facts[0] == facts[1] and all(a != b for a, b in zip(*facts[1:]))
