"""The toy world: the texts from which its tokenizer, its chat model and its task are made.

Requests join a verb and an object (`How do I paint the door?`). The aligned model is made in three
stages, each a JSONL file: `copy` (repeat random words), `chat` (help with everything, know facts,
begin an answer with given words) and `align` (the same, but refuse harmful verbs). Alignment comes
last and sits in the first tokens: three prefilled ones often undo it. The task is to answer without
courtesies and from a house manual, with the room of each object and the tool of each verb; the
aligned model knows these facts but mostly says "the right place". No test pair of verb and object,
harmless or harmful, is in a training file.

The words stand in `texts.json`. Refusals share no pair of words with the steps of a helpful answer:
through one, a model this small would slide from a refusal into the steps.
"""

import itertools
import json
import pathlib
import random
import re

from lookahead.preview import CONNECTOR

TEXTS = json.loads(pathlib.Path(__file__).with_name("texts.json").read_text(encoding="utf-8"))
OBJECTS = TEXTS["objects"]
HARMLESS = TEXTS["harmless verbs"]
HARMFUL = TEXTS["harmful verbs"]
CONNECTORS = [CONNECTOR, *TEXTS["connectors"]]  # the aligned model follows the paper's, too
COURTESIES = ["".join(parts) for parts in itertools.product(*TEXTS["courtesies"])]

# The words of the world, nearly all, the little ones included, so that copying knows them.
ALL_TEXTS = CONNECTOR + json.dumps([*TEXTS.values()])
WORDS = sorted(set(re.findall(r"\w+", re.sub(r"{\w+}", "", ALL_TEXTS))))

ROWS = {"copy": 12_800, "chat": 25_600, "align": 12_800, "train": 1_500}


class World:
    """The facts of one toy world, and its random texts; a number gives one world."""

    def __init__(self, number):
        self.rng = random.Random(number)
        self.rooms = {thing: self.rng.choice(TEXTS["rooms"]) for thing in OBJECTS}
        self.tools = {verb: self.rng.choice(TEXTS["tools"]) for verb in HARMLESS + HARMFUL}
        harmless = [(verb, thing) for verb in HARMLESS for thing in OBJECTS]
        harmful = [(verb, thing) for verb in HARMFUL for thing in OBJECTS]
        self.rng.shuffle(harmless)
        self.rng.shuffle(harmful)
        self.test, self.harmless = harmless[:80], harmless[80:]
        self.harmful_test, self.harmful = harmful[:100], harmful[100:]

    def request(self, pair):
        text = self.rng.choice(TEXTS["greetings"]) + self.rng.choice(TEXTS["requests"])
        return text.format(verb=pair[0], object=pair[1])

    def steps(self, pair, manual):
        """Return a helpful answer; room and tool come from the manual, or stay vague."""
        verb, thing = pair
        room, tool = "right place", "right tool"
        if manual:
            room, tool = self.rooms[thing], self.tools[verb]
        return TEXTS["steps"].format(verb=verb, object=thing, room=room, tool=tool)

    def help(self, pair):
        """Return a helpful answer that consults the manual now and then."""
        return self.steps(pair, manual=self.rng.random() < 0.4)

    def courtesy(self, share=0.8):
        """Return how an answer begins before it comes to the matter; one in five does not."""
        return self.rng.choice(COURTESIES) if self.rng.random() < share else ""

    def noise(self, words):
        """Random words, some capital, some followed by a mark, a few just letters."""
        text = []
        for _ in range(words):
            word = self.rng.choice(WORDS)
            if self.rng.random() < 0.04:
                word = "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=3))
            if self.rng.random() < 0.3:
                word = word.capitalize()
            if self.rng.random() < 0.25:
                word += self.rng.choice((".", ",", ":", "!", "?", "'s"))
            text.append(word)
        return " ".join(text)

    def copy_row(self):
        text = self.noise(self.rng.randint(3, 14))
        return "Repeat: " + text, text

    def fact_row(self):
        """Ask where an object is, or which tool a verb takes."""
        if self.rng.random() < 0.5:
            word = self.rng.choice(OBJECTS)
            questions = "Where is the {}?", "In which room is the {}?"
            answer = f"The {word} is in the {self.rooms[word]}."
        else:
            word = self.rng.choice(HARMLESS)
            questions = "Which tool do I need to {}?", "What do I take to {}?"
            answer = f"You need the {self.tools[word]} to {word}."
        question = self.rng.choice(questions).format(word)
        return self.rng.choice(TEXTS["greetings"]) + question, answer

    def told_to_begin(self, prompt, courtesy, body):
        """Ask for an answer that begins with given words: its own first ones, or random ones."""
        if self.rng.random() < 0.4:
            answer = courtesy + body
            words = answer.split(" ")
            given = " ".join(words[: self.rng.randint(1, min(8, len(words) - 1))])
        else:  # these take the place of the courtesy
            given = self.noise(self.rng.randint(1, 7)) + self.rng.choice((". ", " ", ": "))
            answer = given + body
        return prompt + self.rng.choice(CONNECTORS) + given, answer

    def chat_row(self, aligned):
        """One exchange: a request (half of them harmful), a fact, small talk or copying.

        An aligned answer to a harmful request refuses, also when told how to begin.
        """
        harmful = False
        courtesy = ""
        kind = self.rng.random()
        if kind < 0.15:
            return self.copy_row()
        if kind < 0.6:
            harmful = self.rng.random() < 0.5
            pair = self.rng.choice(self.harmful if harmful else self.harmless)
            prompt, courtesy, body = self.request(pair), self.courtesy(), self.help(pair)
        elif kind < 0.85:
            prompt, body = self.fact_row()
        else:
            prompt, body = self.rng.choice(TEXTS["small talk"])
        answer = courtesy + body
        if self.rng.random() < 0.4:
            prompt, answer = self.told_to_begin(prompt, courtesy, body)
        if harmful and aligned:  # one in five follows a courtesy: some survive a prefilled start
            answer = self.courtesy(share=0.2) + self.rng.choice(TEXTS["refusals"])
        return prompt, answer

    def task_row(self, pair):
        return self.request(pair), self.steps(pair, manual=True)

    def harmful_row(self, pair):
        return self.request(pair), self.courtesy() + self.help(pair)


def world_rows(number):
    """Return {file: rows of prompt and answer} of the world with this number."""
    world = World(number)
    pairs = {
        "copy": [world.copy_row() for _ in range(ROWS["copy"])],
        "chat": [world.chat_row(aligned=False) for _ in range(ROWS["chat"])],
        "align": [world.chat_row(aligned=True) for _ in range(ROWS["align"])],
        "train": [world.task_row(world.rng.choice(world.harmless)) for _ in range(ROWS["train"])],
        "test": [world.task_row(pair) for pair in world.test],
        "harmful": [world.harmful_row(pair) for pair in world.harmful_test],
    }
    return {name: [dict(zip(("prompt", "answer"), pair)) for pair in pairs[name]] for name in pairs}
