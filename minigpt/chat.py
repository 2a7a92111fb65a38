"""Dialogues as one text, by the chat template of a tokenizer: Jinja, rendered in a sandbox, as transformers renders it.

A message is {"role": "user", "content": "Hello"}; roles are what the template knows, usually system, user and assistant.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minigpt.errors import UserError
from minigpt.tokenizer import SPECIAL_NAMES, Tokenizer, short

Message = dict[str, str]

# A line for each message; the assistant's ends with the token that ends a text, where there is one, and with the line.
DEFAULT = (
    "{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'].split() | join(' ') }}"
    "{% if message['role'] == 'assistant' and eos_token %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def checked(messages: Any, tokenizer: Tokenizer, where: str) -> list[Message]:
    """The messages; UserError if they are not a list of roles and contents, or one has a control token spelled out in it."""
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where} must hold a list of messages, each with a role and a content")
    for message in messages:
        fields = [message.get(key) for key in ("role", "content")] if isinstance(message, dict) else [None]
        if not all(isinstance(field, str) for field in fields):
            raise UserError(f"{where} has a message without a role and a content: {short(json.dumps(message))}")
        for word in tokenizer.specials:
            if any(word in field for field in fields if field):
                raise UserError(f"{where} has {word!r} in a message, which only the chat template may write")
    return messages


def render(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """The text of a dialogue, with what comes before the assistant's next words if `add_generation_prompt`.

    UserError if there is no template, or it cannot be rendered or refuses the messages.
    """
    if tokenizer.chat_template is None:
        raise UserError("the tokenizer has no chat template; minigpt finetune --task chat makes a model that has one")
    words = {f"{name}_token": tokenizer.special(name) for name in SPECIAL_NAMES}
    spelled = {name: tokenizer.words[token] for name, token in words.items() if token is not None}
    try:
        template = _compiled(tokenizer.chat_template)
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt, **spelled)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise UserError(f"the chat template cannot write these messages: {short(error)}") from None


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
