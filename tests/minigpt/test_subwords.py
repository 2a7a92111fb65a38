"""Published tokenizers of other kinds: the same ids, pairs, offsets and texts as the `tokenizers` library and transformers."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minigpt.errors import UserError
from minigpt.tokenizer_file import load_tokenizer, wrapped

TEXT = "The lowest of the low, it's said; a naïve café in 2024 — don't worry!\nNew  lines, two  spaces. " * 20
OTHER = "Unseen 日本語 words: lower, 31415 times?  It isn't <s> or [SEP] 😀 "
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def bert():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator([TEXT], trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials, show_progress=False))
    ends = [(word, made.token_to_id(word)) for word in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    return made


def t5():
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=specials, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    made.add_special_tokens([f"<extra_id_{i}>" for i in range(4, -1, -1)])
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return made


def byte_level(*before, normalizer=None, specials=()):
    made = Tokenizer(models.BPE())
    made.normalizer = normalizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([*before, last]) if before else last
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[*specials], show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    return made


def roberta():
    made = byte_level(specials=["<s>", "<pad>", "</s>", "<unk>"])
    made.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def smol():
    made = byte_level(pre_tokenizers.Digits(individual_digits=True))
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return made


def llama3():
    words = pre_tokenizers.Split(Regex(r"(?i:'s|'t)|\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    made = byte_level(words)
    made.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
    begin = ("<|begin_of_text|>", made.token_to_id("<|begin_of_text|>"))
    made.post_processor = processors.TemplateProcessing("<|begin_of_text|> $A", "<|begin_of_text|> $A $B", [begin])
    return made


def llama2():
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*specials, *BYTES], show_progress=False)
    made.train_from_iterator([TEXT[:97]], trainer)
    described = json.loads(made.to_str())
    described["added_tokens"] = described["added_tokens"][:3]  # the bytes are no special tokens
    described["post_processor"] = json.loads(
        processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)]).__getstate__()
    )
    return Tokenizer.from_str(json.dumps(described))


def neox():
    return byte_level(normalizer=normalizers.NFC(), specials=["<|endoftext|>", "<|padding|>"])


MADE = {"bert": bert, "t5": t5, "roberta": roberta, "smol": smol, "llama3": llama3, "llama2": llama2, "neox": neox}


@pytest.fixture(scope="module", params=MADE)
def published(request, tmp_path_factory):
    """The folder of one of them, and the library's own reading of it."""
    folder = tmp_path_factory.mktemp(request.param)
    made = MADE[request.param]()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder, made


def test_ids_pairs_and_texts_are_the_librarys(published):
    folder, theirs = published
    ours = load_tokenizer(folder / "tokenizer.json")
    theirs.encode_special_tokens = True
    assert ours.vocab_size == len(ours.pieces) == theirs.get_vocab_size()
    for text in ("", "low", TEXT, OTHER):
        ids = ours.encode(text)
        assert ids.dtype == np.int64 and ids.tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == theirs.decode(ids.tolist())
    for a, b in ((TEXT, None), ("the low", OTHER)):
        got, expected = ours.encode_pair(a, b), theirs.encode(a, b)
        assert got.ids.tolist() == expected.ids and got.segments.tolist() == expected.type_ids
        assert [tuple(offset) for offset in got.offsets.tolist()] == expected.offsets
        assert [None if text < 0 else text for text in got.texts] == expected.sequence_ids


@pytest.mark.oracle
def test_transformers_gives_the_same(published):
    transformers = pytest.importorskip("transformers")
    folder, _ = published
    ours, theirs = load_tokenizer(folder / "tokenizer.json"), transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("the low", TEXT, "It isn't 日本語 2024 😀"):
        assert ours.encode_pair(text).ids.tolist() == theirs(text)["input_ids"]
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text).tolist() == ids
        decoded = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids) == decoded


def test_pieces_make_the_text(published):
    """What is streamed, token by token, is the decoded text; a first space is the tokenizer's own."""
    folder, _ = published
    ours = load_tokenizer(folder / "tokenizer.json")
    for text in ("the lowest café — in 2024", "said 日本 😀"):
        ids = ours.encode(text)
        if ours.kind != "wordpiece" and ours.special("unk") not in ids:
            streamed = b"".join(ours.piece(token) for token in ids).decode()
            assert streamed.removeprefix(" ") == ours.decode(ids) == text
    if ours.kind == "wordpiece":
        assert b"".join(ours.piece(token) for token in ours.encode("the lowest")) == b" the lowest"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "bos": None, "eos": None}),
        ("t5", {"pad": "<pad>", "unk": "<unk>", "eos": "</s>", "cls": None, "sep": None, "mask": None, "bos": None}),
        ("roberta", {"cls": "<s>", "sep": "</s>", "mask": "<mask>", "pad": "<pad>", "bos": "<s>", "eos": "</s>"}),
        ("llama2", {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": None, "mask": None}),
        ("smol", {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "pad": None}),
    ],
)
def test_special_tokens_are_found_by_their_spelling(tmp_path, name, expected):
    MADE[name]().save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    found = {word: ours.special(word) for word in expected}
    assert {word: None if token is None else ours.words[token] for word, token in found.items()} == expected
    assert ours.end_of_text == (ours.special("sep") if name == "bert" else ours.special("eos"))
    assert [ours.words[token] for token in ours.sentinels] == [f"<extra_id_{i}>" for i in range(5)] * (name == "t5")


def test_what_the_configuration_says_comes_first(tmp_path):
    smol().save(str(tmp_path / "tokenizer.json"))
    said = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|im_end|>"}, "bos_token": None, "chat_template": "{{ x }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    end = ours.specials["<|im_end|>"]
    assert ours.special("eos") == ours.special("pad") == ours.end_of_text == end
    assert ours.special("bos") is None
    assert ours.chat_template == "{{ x }}"
    (tmp_path / "chat_template.jinja").write_text("{{ y }}")
    assert load_tokenizer(tmp_path / "tokenizer.json").chat_template == "{{ y }}"


@pytest.mark.parametrize("content", ["[]", "{", "\udcff", "3"])
def test_a_malformed_configuration_is_one_sentence(tmp_path, content):
    smol().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_control_tokens_are_read_only_where_asked_for(published):
    folder, _ = published
    ours = load_tokenizer(folder / "tokenizer.json")
    for word, token in ours.specials.items():
        if token == ours.special("unk"):
            continue
        assert token not in ours.encode(f"the {word} low")
        assert token in ours.encode(f"the {word} low", control=True)
        assert token not in ours.encode(f"the {word} low")


def test_the_longer_text_is_cut():
    ours = wrapped(bert())
    whole = ours.encode_pair("the low " * 20, "it's said")
    cut = ours.encode_pair("the low " * 20, "it's said", length=16)
    assert len(cut) == 16 and len(whole) > 16
    assert cut.ids[cut.texts == 1].tolist() == whole.ids[whole.texts == 1].tolist()
    assert np.array_equal(cut.ids[1:9], whole.ids[1:9])
    assert len(ours.encode_pair("the low " * 20)) > 16  # it does not stay so
    with pytest.raises(UserError, match="a length of 2 tokens has no room for the 3 special tokens"):
        ours.encode_pair("the", "low", length=2)


@pytest.mark.parametrize("name", MADE)
def test_unknown_ids_and_lone_surrogates_are_refused(name):
    ours = wrapped(MADE[name]())
    for token in (-1, ours.vocab_size):
        with pytest.raises(UserError, match=f"token {token} is not in the vocabulary"):
            ours.decode([token])
    for read in (ours.encode, ours.encode_pair):
        with pytest.raises(UserError, match="lone surrogate"):
            read("e\ud800")


def test_byte_level_files_with_other_splits_stay_lossless():
    for name in ("roberta", "smol", "llama3"):
        ours = wrapped(MADE[name]())
        assert ours.kind == "bpe"
        assert ours.decode(ours.encode(TEXT + OTHER)) == TEXT + OTHER
