"""Byte-level BPE: the ids of the `tokenizers` package, and a sentence for what is not computed."""

import json
import pathlib
import random
import time
import unicodedata

import pytest

from lookahead.cli import InputError
from lookahead.files.bpe import ByteLevelBPE
from lookahead.files.words import LLAMA3, QWEN

tokenizers = pytest.importorskip("tokenizers")
GSM8K = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
TEXTS = ["The lamp's light isn't white; it's 12345 shades of grey.\n\n  She'd said \"Hello\"!"] * 9
TEXTS += ["Ça va très bien, señor Müller? 東京は日本の首都です。 Привет, мир! ½ ⅷ ٣٤ 🙂🚀"] * 9


def split(pattern):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return [step | {"invert": False}]


KINDS = {  # normalizer, steps before ByteLevel, and whether that cuts, as in the published files
    "gpt-2": (None, [], True),
    "smollm2": (None, [{"type": "Digits", "individual_digits": True}], True),
    "llama-3": (None, split(LLAMA3), False),
    "qwen": ({"type": "NFC"}, split(QWEN), False),
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
    if GSM8K.exists():
        rows = map(json.loads, GSM8K.read_text(encoding="utf-8").splitlines()[::10])
        texts += [row[field] for row in rows for field in ("question", "answer")]
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)


def test_decoding_gives_the_text_back_and_a_cut_character_its_replacement(both):
    ours, _ = both
    for text in [*TEXTS, "It's  12 o'clock.\n\n<|im_end|> <think>", ""]:
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


def test_a_text_is_normalised_as_it_is_read(both):
    ours, _ = both
    text = "Bengali \u09dc, nukta \u0915\u093c, e\u0301, <think>"
    form = unicodedata.normalize("NFC", text) if ours.nfc else text
    assert ours.normalize(text) == form and ours.encode(text) == ours.encode(form)
    assert ours.decode(ours.encode(form)) == form


@pytest.mark.parametrize("letters", ["a", "etaoinshrdlu", " ", "é"])
def test_a_word_of_20_000_letters_takes_less_than_a_second(both, letters):
    ours, theirs = both
    word = "".join(random.Random(0).choices(letters, k=20_000))
    start = time.process_time()
    ids = ours.encode(word)
    assert time.process_time() - start < 1 and ids == theirs.encode(word).ids


@pytest.mark.parametrize("part, name, value, words", [
    ("file", "normalizer", {"type": "ByteLevel"}, "normalizer {'type': 'ByteLevel'}"),
    ("file", "normalizer", {"type": "Sequence", "normalizers": []}, "normalizer {'type': 'Seq"),
    ("file", "pre_tokenizer", None, "pre_tokenizer {}"),
    ("file", "pre_tokenizer", ..., "pre_tokenizer {}"),
    ("file", "pre_tokenizer", {"type": "Metaspace"}, "'Metaspace'"),
    ("split", "behavior", "Removed", "'Removed'"),
    ("split", "invert", True, "'invert': True"),
    ("split", "pattern", {"String": " "}, "'pattern': {'String': ' '}"),
    ("split", "pattern", {"Regex": LLAMA3.replace("{1,3}", "{1,3}+")}, r"N}{1,3}+| ?[^\\s"),
    ("split", "type", "Digits", "'Digits'"),
    ("byte_level", "add_prefix_space", True, "'add_prefix_space': True"),
    ("byte_level", "type", "Digits", "'Digits'"),
    ("model", "type", "Unigram", "type 'Unigram'"),
    ("model", "byte_fallback", True, "byte_fallback True"),
    ("model", "continuing_subword_prefix", "##", "continuing_subword_prefix '##'"),
    ("model", "unk_token", "<unk>", "unk_token '<unk>'"),
    ("model", "dropout", 0.1, "dropout 0.1"),
    ("model", "merges", [["Q", "Z"]], "'QZ' is missing"),
    ("model", "merges", [["<|", "<|"]], "the special token '<|' is a part of words"),
    ("file", "model", {"type": "BPE"}, "'vocab' is missing"),
    ("added", "content", "!", "'content': '!'"),
    ("special", "content", "!", "'content': '!'"),
    ("added", "lstrip", True, "'lstrip': True"),
    ("special", "rstrip", True, "'rstrip': True"),
    ("added", "single_word", True, "'single_word': True"),
    ("added", "id", 1, "'id': 1"),
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
    if value is ...:
        del parts[part][name]
    with pytest.raises(InputError) as error:
        ByteLevelBPE(written(file, tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/tokenizer.json: ") and words in str(error.value)


def test_a_pad_token_that_is_an_ordinary_one_is_rejected(tmp_path):
    file = train("qwen")
    file["added_tokens"].insert(0, added(file["model"]["vocab"]["!"], "!", special=True))
    with pytest.raises(InputError, match="the special token '!' is a part of words"):
        ByteLevelBPE(written(file, tmp_path))


@pytest.mark.parametrize("part, name", [
    ("byte_level", "use_regex"), ("byte_level", "trim_offsets"), ("file", "normalizer"),
    ("file", "added_tokens"), ("model", "type"), ("model", "ignore_merges"), ("model", "dropout"),
])  # fmt: skip
def test_absent_fields_mean_what_the_package_takes(part, name, tmp_path):
    file = train("llama-3")
    last = file["pre_tokenizer"]["pretokenizers"][-1]
    del {"file": file, "byte_level": last, "model": file["model"]}[part][name]
    ours = ByteLevelBPE(written(file, tmp_path))
    last.setdefault("trim_offsets", True)  # without which the package reads nothing
    theirs = tokenizers.Tokenizer.from_str(json.dumps(file))
    theirs.encode_special_tokens = True
    for text in TEXTS[::9] + ["<think> clips", "It's 12345"]:
        assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": {"vocab": 3}}'])
def test_another_file_is_rejected(text, tmp_path):
    (tmp_path / "some.json").write_text(text)
    for name in ("some.json", "none.json"):
        with pytest.raises(InputError, match=f"{name}: "):
            ByteLevelBPE(tmp_path / name)
