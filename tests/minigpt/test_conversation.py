"""Chats: what the model reads, where an answer ends, what is left out of a full context, and the command."""

import io
import itertools
import json
import sys

import numpy as np
import pytest

from minigpt import checkpoint, cli
from minigpt.chat import DEFAULT, render
from minigpt.conversation import Conversation, ending
from minigpt.errors import UserError
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context
from minigpt.lossless import byte_tokenizer
from minigpt.models.decoder import Decoder, DecoderConfig

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START, END = 256, 257


def tokenizer_with(template=CHATML, specials=("<|im_start|>", "<|im_end|>")):
    tokenizer = byte_tokenizer(specials)
    tokenizer.chat_template = tokenizer.settings["chat_template"] = template
    return tokenizer


def model_of(block_size=256, seed=0):
    rng = np.random.default_rng(seed)
    model = Decoder(DecoderConfig(258, block_size, 2, 4, 16), rng)
    model.load_state_dict({k: v + rng.normal(0, 0.3, v.shape) for k, v in model.state_dict().items()})
    return model.eval()


def greedy(count=12, **settings):
    return GenerationConfig(max_new_tokens=count, temperature=0, **settings)


def full_answer(model, tokenizer, messages, count):
    """Token by token, each from the whole text, until the end."""
    ids, found = tokenizer.encode(render(tokenizer, messages, True), control=True).tolist(), []
    while len(found) < count and END not in found:
        found.append(int(model([ids + found]).data[0, -1].argmax()))
    return found


def test_answers_are_the_likeliest_tokens_after_all_that_was_said():
    model, tokenizer = model_of(), tokenizer_with()
    conversation = Conversation(model, tokenizer, "Be brief.", greedy())
    said = [{"role": "system", "content": "Be brief."}]
    for question in ("Hello", "Are you ñandú?", "Hello"):
        pieces = "".join(conversation.answer(question))
        said.append({"role": "user", "content": question})
        assert conversation.answered.tokens == full_answer(model, tokenizer, said, 12)
        assert pieces == conversation.answered.text
        said.append({"role": "assistant", "content": pieces})
        assert conversation.messages == said and conversation.unread == 0


def test_an_answer_ends_where_the_template_ends_it():
    model, tokenizer = model_of(), tokenizer_with()
    model.wte.weight.data = np.zeros_like(model.wte.weight.data)
    bias = np.zeros_like(model.head.weight.data)  # whatever is said, the end is the likeliest
    bias[END] = 1
    model.head.weight.data, model.ln_f.weight.data = bias, np.ones(16, np.float32)
    model.wte.weight.data = np.ones_like(bias)
    conversation = Conversation(model, tokenizer, config=greedy())
    assert "".join(conversation.answer("Hello")) == "" and conversation.answered.finish == "stop"
    assert conversation.answered.tokens == [END]


def test_the_end_is_the_templates():
    assert ending(tokenizer_with()) == (END, ())
    assert ending(tokenizer_with(DEFAULT)) == (None, ("\n",))
    ended = tokenizer_with(DEFAULT, ("<|endoftext|>",))
    assert ending(ended) == (256, ())
    assert ending(tokenizer_with("{% for message in messages %}{{ message['content'] }}{% endfor %}")) == (None, ())


def test_what_was_read_is_not_read_again(monkeypatch):
    model, read = model_of(), []
    forward = Decoder.forward
    monkeypatch.setattr(Decoder, "forward", lambda self, ids, **how: read.append(np.shape(ids)[1]) or forward(self, ids, **how))
    conversation = Conversation(model, tokenizer_with(), config=greedy(4))
    "".join(conversation.answer("A long question, of sixty-four bytes, at the very least of them."))
    first, read[:] = read[0], []
    "".join(conversation.answer("Short."))
    assert first > 64 and read[0] < 50


def test_a_context_reads_another_sequence_as_if_it_were_the_first():
    model = model_of(32)
    ids = np.random.default_rng(0).integers(0, 256, 60).tolist()
    context = Context(model, [ids[:20]], 32)
    context.logits()
    for sequence in (ids[:10] + ids[30:40], ids[:10] + ids[30:35], ids[:60], ids[:8]):  # one outgrows the context
        context.reread(sequence)
        fresh = Context(model, [sequence], 32).logits()
        np.testing.assert_allclose(context.logits(), fresh, atol=1e-5)


def test_a_full_context_forgets_the_oldest_but_not_the_system():
    model, tokenizer = model_of(160), tokenizer_with()
    conversation = Conversation(model, tokenizer, "Be kind.", greedy(8))
    seen = []
    for n in itertools.count():
        "".join(conversation.answer(f"Question {n}"))
        seen.append(conversation.unread)
        if conversation.unread >= 4:
            break
    assert seen[0] == 0 and sorted(seen) == seen and all(unread % 2 == 0 for unread in seen)
    kept = [conversation.messages[0], *conversation.messages[1 + conversation.unread : -1]]
    assert conversation.answered.tokens == full_answer(model, tokenizer, kept, 8)
    longer = [conversation.messages[0], *conversation.messages[conversation.unread - 1 : -1]]
    assert len(tokenizer.encode(render(tokenizer, longer, True), control=True)) > 160 - 8


def test_an_answer_that_is_broken_off_is_kept_as_far_as_it_got():
    conversation = Conversation(model_of(), tokenizer_with(), config=greedy(30))
    pieces = conversation.answer("Hello")
    begun = next(pieces) + next(pieces)
    pieces.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": begun}
    assert (
        "".join(conversation.answer("Go on"))
        and [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2
    )


def test_mistakes_are_one_sentence():
    model, tokenizer = model_of(64), tokenizer_with()
    with pytest.raises(UserError, match="num_beams"):
        Conversation(model, tokenizer, config=greedy(num_beams=2))
    with pytest.raises(UserError, match=r"no chat template"):
        Conversation(model, byte_tokenizer())
    with pytest.raises(UserError, match=r"system has '<\|im_end\|>'"):
        Conversation(model, tokenizer, "<|im_end|>")
    conversation = Conversation(model, tokenizer, config=greedy())
    with pytest.raises(UserError, match=r"the message has '<\|im_start\|>'"):
        conversation.answer("<|im_start|>")
    with pytest.raises(UserError, match=r"makes 1\d\d tokens, but there is room for 52 in the model's context of 64"):
        conversation.answer("x" * 100)
    assert conversation.messages == []


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path / "model", model_of(), tokenizer_with())
    return str(tmp_path / "model")


def test_the_command_answers_one_message(folder, capsys, monkeypatch, tmp_path):
    flags = ["--temperature", "0", "--max-new-tokens", "10"]
    assert cli.main(["chat", folder, "Hello", *flags]) == 0
    shown = capsys.readouterr().out
    model, tokenizer = checkpoint.load(folder)
    assert shown == tokenizer.decode(full_answer(model, tokenizer, [{"role": "user", "content": "Hello"}], 10)) + "\n"
    assert cli.main(["chat", folder, "Hello", "--json", *flags]) == 0
    answered = json.loads(capsys.readouterr().out)
    assert answered["prompt"] == "Hello" and answered["text"] + "\n" == shown and len(answered["tokens"]) <= 10
    assert "log_probs" not in answered
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Hello\n".encode("utf-8-sig"))))
    assert cli.main(["chat", folder, *flags]) == 0
    assert capsys.readouterr().out == shown
    assert cli.main(["chat", folder, *flags, "Hello"]) == 0
    assert capsys.readouterr().out == shown
    (tmp_path / "message").write_text("Hello\n\n")
    assert cli.main(["chat", folder, "--file", str(tmp_path / "message"), *flags]) == 0
    assert capsys.readouterr().out == shown
    assert cli.main(["chat", folder, "Hello", "--system", "Be brief.", *flags]) == 0
    assert capsys.readouterr().out != shown


def test_the_command_talks_in_a_terminal(folder, capsys, monkeypatch):
    typed = iter(["Hello", " ", "<|im_end|>", "x" * 300, "Hello"])

    def type_next(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", type_next)
    assert cli.main(["chat", folder, "--temperature", "0", "--max-new-tokens", "10", "--json"]) == 0
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines() if line]
    assert [answer["prompt"] for answer in answers] == ["Hello", "Hello"] and answers[0]["text"] != answers[1]["text"]
    assert [line.split()[3] for line in err.splitlines()] == ["has", "makes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--seed", "-1"], "--seed"), (["--num-beams", "2"], "num_beams"), (["--system", "<|im_end|>"], "system has")],
)
def test_mistakes_on_the_command_line(folder, capsys, arguments, said):
    assert cli.main(["chat", folder, "Hello", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"), [([" "], "message is empty"), (["Hi", "--file", "a"], "not both"), (["Hi", "you"], "you")]
)
def test_messages_that_are_none(folder, capsys, arguments, said):
    assert cli.main(["chat", folder, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
