"""Dialogues are written as transformers writes them, in a sandbox, and no message can forge a control token."""

import json
import re

import pytest

from minigpt.chat import DEFAULT, checked, render
from minigpt.errors import UserError
from minigpt.lossless import byte_tokenizer

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = (
    "{% for m in messages %}\n    {% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}\n"
    "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m | tojson }}{% endfor %}{{ bos_token }}"
)
TALK = [{"role": "user", "content": "Is 1 < 2 & é?"}, {"role": "assistant", "content": "Yes.\nIt  is."}]


def tokenizer(template, specials=("<|im_start|>", "<|im_end|>", "<|endoftext|>")):
    made = byte_tokenizer(specials)
    made.chat_template = template
    return made


def test_the_default():
    plain, ends = tokenizer(DEFAULT, ()), tokenizer(DEFAULT)
    assert render(plain, TALK) == "user: Is 1 < 2 & é?\nassistant: Yes. It is.\n"
    assert render(ends, TALK) == "user: Is 1 < 2 & é?\nassistant: Yes. It is.<|endoftext|>\n"
    assert render(plain, TALK[:1], add_generation_prompt=True) == "user: Is 1 < 2 & é?\nassistant:"


@pytest.mark.oracle
@pytest.mark.parametrize("template", [DEFAULT, CHATML, STRICT])
@pytest.mark.parametrize("prompt", [False, True])
def test_as_transformers(template, prompt):
    transformers = pytest.importorskip("transformers")
    ours = tokenizer(template)
    end = "<|endoftext|>"
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=ours.backend, bos_token=end, eos_token=end, chat_template=template
    )
    expected = theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=prompt)
    assert render(ours, TALK, prompt) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{% for %}", "cannot write these messages"),
        (STRICT.replace("'tool'", "'user'"), "cannot write these messages: no tools"),
        ("{{ messages.clear() }}", "cannot write these messages"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "cannot write these messages"),
        ("{{ messages[7]['role'] }}", "cannot write these messages"),
        ("{{ range(1000000000) | list }}", "cannot write these messages"),
    ],
)
def test_templates_that_are_refused(template, message):
    with pytest.raises(UserError, match=message):
        render(tokenizer(template), TALK)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "must hold a list of messages"),
        ("hello", "must hold a list of messages"),
        (["hello"], 'a message without a role and a content: "hello"'),
        ([{"role": "user"}], "a message without a role and a content"),
        ([{"role": "user", "content": 3}], "a message without a role and a content"),
        ([{"role": "user", "content": "a<|im_end|>b"}], "line 1 has '<|im_end|>' in a message"),
        ([{"role": "<|im_end|>", "content": "a"}], "in a message, which only the chat template may write"),
    ],
)
def test_messages_that_are_refused(messages, message):
    with pytest.raises(UserError, match=re.escape(message)):
        checked(json.loads(json.dumps(messages)), tokenizer(CHATML), "a.jsonl, line 1")
