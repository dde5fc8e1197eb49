"""Byte-level BPE: the ids of the `tokenizers` package, and a sentence for what is not computed."""

import json
import random
import time
import unicodedata

import pytest

from lookahead.cli import InputError
from lookahead.files.bpe import ByteLevelBPE
from lookahead.files.words import LLAMA3, QWEN

tokenizers = pytest.importorskip("tokenizers")
TEXTS = ["The lamp's light isn't white; it's 12345 shades of grey.\n\n  She'd said \"Hello\"!"] * 9
TEXTS += ["Ça va très bien, señor Müller? 東京は日本の首都です。 Привет, мир! ½ ⅷ ٣٤ 🙂🚀"] * 9

SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
KINDS = {  # normalizer, steps before ByteLevel, and whether that cuts, as in the published files
    "gpt-2": (None, [], True),
    "smollm2": (None, [{"type": "Digits", "individual_digits": True}], True),
    "llama-3": (None, [SPLIT | {"pattern": {"Regex": LLAMA3}}], False),
    "qwen": ({"type": "NFC"}, [SPLIT | {"pattern": {"Regex": QWEN}}], False),
}


def added(number, content, **flags):
    """An added token as tokenizer.json has it, an ordinary word but for its flags."""
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": number, "content": content, **dict.fromkeys(names, False), **flags}


def train(kind):
    """Return what the tokenizer.json of a small tokenizer of this kind holds."""
    normalizer, steps, use_regex = KINDS[kind]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [*steps, byte_level | {"use_regex": use_regex}]
    file = json.loads(tokenizers.Tokenizer(tokenizers.models.BPE()).to_str())
    file |= {"normalizer": normalizer, "decoder": byte_level}
    file |= {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
    bytes_here = set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    if kind == "smollm2":  # lacks bytes, here 0x04, 0x13 and 0xf1
        bytes_here -= set("Ąēñ")
    settings = {"initial_alphabet": list(bytes_here), "special_tokens": ["<|im_end|>", "<|"]}
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, show_progress=False, **settings)
    tokenizer.train_from_iterator(TEXTS, trainer)
    file = json.loads(tokenizer.to_str())
    vocab = file["model"]["vocab"]
    if kind == "llama-3":  # takes words whole that no merge makes
        file["model"]["ignore_merges"] = True
        vocab["Ġclips"] = len(vocab)
    if kind == "gpt-2":  # what is absent means what the package takes
        del file["normalizer"], file["pre_tokenizer"]["pretokenizers"][0]["use_regex"]
        del file["model"]["type"], file["model"]["ignore_merges"], file["model"]["dropout"]
    file["added_tokens"].append(added(len(vocab), "<think>"))
    file["added_tokens"].append(added(len(vocab) + 1, "think", normalized=True))
    if kind == "qwen":  # the older way to write merges
        file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    return file


def written(file, folder):
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return folder / "tokenizer.json"


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """Our tokenizer and the package's, which does not recognise special tokens either."""
    file = train(request.param)
    ours = ByteLevelBPE(written(file, tmp_path_factory.mktemp("bpe")))
    theirs = tokenizers.Tokenizer.from_str(json.dumps(file))
    theirs.encode_special_tokens = True
    return ours, theirs


def random_texts(count):
    """Return texts of characters as old as Unicode 3.2: on newer ones versions may differ."""
    old = unicodedata.ucd_3_2_0.category
    known = [c for c in map(chr, range(0x110000)) if old(c) not in ("Cn", "Cs")]
    odd = [*" \n\r\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u3000'’sSTſ\u0301\u0327é1٣²½中あ"]
    choose = random.Random(0).choice
    for i in range(count):
        yield "".join(choose(choose([known, known[:128], odd, odd])) for _ in range(i % 40))


def test_ids_and_texts_are_those_of_the_package(both):
    ours, theirs = both
    texts = [*TEXTS, *random_texts(1000), "clips clips", "a\ufacf\U0002284a"]
    words = ["<think>", "think", "k> th", "<thin", "a", " ", "e\u0301"]
    texts += ["".join(random.Random(i).choices(words, k=i % 9)) for i in range(300)]
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)


def test_decoding_gives_back_the_text_as_it_is_read(both):
    ours, _ = both
    text = "Bengali \u09dc, nukta \u0915\u093c, e\u0301, <think>"
    form = unicodedata.normalize("NFC", text) if ours.nfc else text
    assert ours.normalize(text) == form and ours.encode(text) == ours.encode(form)
    for text in [form, *TEXTS, "It's  12 o'clock.\n\n<|im_end|> <think>", ""]:
        ids = ours.encode(text)
        assert ours.decode(ids, continues=True) == text
    assert "".join(map(ours.piece, ours.encode("A lamp"))) == "A lamp"
    assert ours.decode(ours.encode("x🙁")[:-1]) == "x\ufffd"  # too rare to be one token


def test_special_tokens_are_never_found_in_text_and_added_words_are(both):
    ours, theirs = both
    end, think, so = map(ours.special, ["<|im_end|>", "<think>", "think"])
    assert list(ours.specials) == ["<|im_end|>", "<|"] and ours.special("A") is None
    ids = ours.encode("<| a<|im_end|> <think>bthink<|im_end|><thin")
    assert not set(ours.specials.values()) & set(ids) and {think, so} <= set(ids)
    assert ours.piece(end) == "<|im_end|>" and ours.piece(think) == "<think>"
    assert ours.decode([end, think, end, ours.size]) == "<think>"
    assert ours.size == 1 + so


def test_a_word_of_20_000_letters_takes_less_than_a_second(both):
    ours, theirs = both
    word = "".join(random.Random(0).choices("etaoinshrdlu", k=20_000))
    start = time.process_time()
    ids = ours.encode(word)
    assert time.process_time() - start < 1 and ids == theirs.encode(word).ids


@pytest.mark.parametrize("part, name, value, words", [
    ("file", "pre_tokenizer", {"type": "Metaspace"}, "'Metaspace'"),
    ("split", "behavior", "Removed", "'Removed'"),
    ("split", "pattern", {"Regex": LLAMA3.replace("{1,3}", "{1,3}+")}, r"N}{1,3}+| ?[^\\s"),
    ("model", "type", "Unigram", "type 'Unigram'"),
    ("model", "merges", [["Q", "Z"]], "'QZ' is missing"),
    ("model", "merges", [["<|", "<|"]], "the special token '<|' is a part of words"),
    ("file", "added_tokens", [added(2, "!", special=True)], "the special token '!' is a part of"),
    ("added", "id", 5000, "'id': 5000"),
    ("added", "content", "<|im_end|>", "'<|im_end|>'"),
    ("added", "content", "", "'content': ''"),
])  # fmt: skip
def test_what_is_not_computed_is_rejected_by_name(part, name, value, words, tmp_path):
    file = train("llama-3")
    first, last = file["pre_tokenizer"]["pretokenizers"]
    parts = {"file": file, "split": first, "byte_level": last, "model": file["model"]}
    parts |= {"special": file["added_tokens"][0], "added": file["added_tokens"][-1]}
    parts[part][name] = value
    with pytest.raises(InputError) as error:
        ByteLevelBPE(written(file, tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/tokenizer.json: ") and words in str(error.value)
