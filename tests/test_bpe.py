"""Byte-level BPE: the ids of the `tokenizers` package, and a sentence for what is not computed."""

import json
import pathlib
import random
import time
import unicodedata

import pytest

from lookahead.cli import InputError
from lookahead.files.bpe import ByteLevelBPE

tokenizers = pytest.importorskip("tokenizers")
GSM8K = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
TEXTS = ["The lamp's light isn't white; it's 12345 shades of grey.\n\n  She'd said \"Hello\"!"] * 9
TEXTS += ["Ça va très bien, señor Müller? 東京は日本の首都です。 Привет, мир! ½ ⅷ ٣٤ 🙂🚀"] * 9


def split(numbers):
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pattern = {"Regex": words + numbers + rest}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


KINDS = {  # normalizer, first step, and whether ByteLevel cuts, as in the published files
    "smollm2": (None, {"type": "Digits", "individual_digits": True}, True),
    "digits": (None, {"type": "Digits", "individual_digits": False}, True),
    "llama-3": (None, split(r"\p{N}{1,3}"), False),
    "qwen": ({"type": "NFC"}, split(r"\p{N}"), False),
}


def train(kind):
    """Return what the tokenizer.json of a small tokenizer of this kind holds."""
    normalizer, step, use_regex = KINDS[kind]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [step, byte_level | {"use_regex": use_regex}]
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
    tokenizer.add_tokens(["<think>"])
    file = json.loads(tokenizer.to_str())
    if kind == "llama-3":  # takes words whole that no merge makes
        file["model"]["ignore_merges"] = True
        file["model"]["vocab"]["Ġclips"] = 601
    if kind == "qwen":  # the older way to write merges
        file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    return file


def written(file, folder):
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return folder / "tokenizer.json"


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """Our tokenizer and the package's, which recognises added tokens unless it has none."""
    file = train(request.param)
    ours = ByteLevelBPE(written(file, tmp_path_factory.mktemp("bpe")))
    return ours, tokenizers.Tokenizer.from_str(json.dumps(file | {"added_tokens": []}))


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


def test_added_tokens_have_ids_and_names_but_are_never_found_in_text(both):
    ours, _ = both
    end, think = ours.special("<|im_end|>"), ours.special("<think>")
    assert list(ours.specials) == ["<|im_end|>", "<|", "<think>"] and ours.special("A") is None
    assert not set(ours.specials.values()) & set(ours.encode("<| a<|im_end|> <think> <|im_end|>"))
    assert ours.piece(end) == "<|im_end|>" and ours.piece(think) == "<think>"
    assert ours.decode([end, think, end, ours.size]) == "<think>"  # not special, so it has a text
    assert ours.size == 1 + max(think, *ours.vocab.values())


@pytest.mark.parametrize("letters", ["a", "etaoinshrdlu", " ", "é"])
def test_a_word_of_20_000_letters_takes_less_than_a_second(both, letters):
    ours, theirs = both
    word = "".join(random.Random(0).choices(letters, k=20_000))
    start = time.process_time()
    ids = ours.encode(word)
    assert time.process_time() - start < 1 and ids == theirs.encode(word).ids


@pytest.mark.parametrize("part, name, value, told", [
    ("file", "normalizer", {"type": "Lowercase"}, "type 'Lowercase'"),
    ("file", "pre_tokenizer", None, "use_regex"),
    ("file", "pre_tokenizer", {"type": "Metaspace"}, "type 'Metaspace'"),
    ("split", "behavior", "Removed", "behavior 'Removed'"),
    ("split", "invert", True, "invert True"),
    ("split", "pattern", {"String": " "}, "'Regex' is missing"),
    ("split", "pattern", {"Regex": r"\w+"}, r"\w in a pattern"),
    ("split", "pattern", {"Regex": r"\p{Han}+"}, r"bad escape \p"),
    ("byte_level", "add_prefix_space", True, "add_prefix_space True"),
    ("model", "type", "Unigram", "type 'Unigram'"),
    ("model", "byte_fallback", True, "byte_fallback True"),
    ("model", "continuing_subword_prefix", "##", "continuing_subword_prefix '##'"),
    ("model", "unk_token", "<unk>", "unk_token '<unk>'"),
    ("model", "dropout", 0.1, "dropout 0.1"),
    ("model", "merges", [["Q", "Z"]], "'QZ' is missing"),
    ("file", "model", {"type": "BPE"}, "'vocab' is missing"),
])  # fmt: skip
def test_what_is_not_computed_is_rejected_by_name(part, name, value, told, tmp_path):
    file = train("llama-3")
    first, last = file["pre_tokenizer"]["pretokenizers"]
    parts = {"file": file, "split": first, "byte_level": last, "model": file["model"]}
    parts[part][name] = value
    with pytest.raises(InputError) as error:
        ByteLevelBPE(written(file, tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/tokenizer.json: ") and told in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_another_file_is_rejected(text, tmp_path):
    (tmp_path / "some.json").write_text(text)
    for name in ("some.json", "none.json"):
        with pytest.raises(InputError, match=f"{name}: "):
            ByteLevelBPE(tmp_path / name)
