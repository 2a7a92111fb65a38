"""minigpt: train, fine-tune, run, check and exchange transformers (GPT, BERT, T5 and their kin) with tensorgrad.

The public names are loaded when they are first used, so that `import minigpt` and `minigpt --help` stay instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.answering import answer
    from minigpt.checkpoint import load, save
    from minigpt.classifying import classify
    from minigpt.config import TrainConfig
    from minigpt.conversation import Conversation
    from minigpt.embed import Words, cosine_similarities, nearest, sentence_vectors
    from minigpt.errors import MinigptError, TrainingError, UserError
    from minigpt.exchange.pretrained import from_pretrained, save_pretrained
    from minigpt.filling import fill_mask
    from minigpt.finetuning.run import finetune
    from minigpt.finetuning.settings import FinetuneConfig
    from minigpt.generation.config import GenerationConfig
    from minigpt.generation.text import generate_text, generate_texts
    from minigpt.generation.translate import translate
    from minigpt.knowledge import Knowledge, read_passages
    from minigpt.models.bart import Bart, BartConfig
    from minigpt.models.bert import BERT, BERTConfig
    from minigpt.models.gpt import GPT, GPTConfig
    from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier
    from minigpt.models.t5 import T5, T5Config
    from minigpt.tagging import tag
    from minigpt.tokenizer import Tokenizer

_HOME = {
    "answer": "minigpt.answering",
    "load": "minigpt.checkpoint",
    "save": "minigpt.checkpoint",
    "classify": "minigpt.classifying",
    "TrainConfig": "minigpt.config",
    "Words": "minigpt.embed",
    "cosine_similarities": "minigpt.embed",
    "nearest": "minigpt.embed",
    "sentence_vectors": "minigpt.embed",
    "Conversation": "minigpt.conversation",
    "MinigptError": "minigpt.errors",
    "TrainingError": "minigpt.errors",
    "UserError": "minigpt.errors",
    "from_pretrained": "minigpt.exchange.pretrained",
    "fill_mask": "minigpt.filling",
    "save_pretrained": "minigpt.exchange.pretrained",
    "finetune": "minigpt.finetuning.run",
    "FinetuneConfig": "minigpt.finetuning.settings",
    "GenerationConfig": "minigpt.generation.config",
    "generate_text": "minigpt.generation.text",
    "generate_texts": "minigpt.generation.text",
    "translate": "minigpt.generation.translate",
    "Knowledge": "minigpt.knowledge",
    "read_passages": "minigpt.knowledge",
    "Bart": "minigpt.models.bart",
    "BartConfig": "minigpt.models.bart",
    "BERT": "minigpt.models.bert",
    "BERTConfig": "minigpt.models.bert",
    "GPT": "minigpt.models.gpt",
    "GPTConfig": "minigpt.models.gpt",
    "AnswerExtractor": "minigpt.models.heads",
    "MaskedLM": "minigpt.models.heads",
    "SequenceClassifier": "minigpt.models.heads",
    "TokenClassifier": "minigpt.models.heads",
    "T5": "minigpt.models.t5",
    "T5Config": "minigpt.models.t5",
    "tag": "minigpt.tagging",
    "Tokenizer": "minigpt.tokenizer",
}

__all__ = [
    "BERT",
    "GPT",
    "T5",
    "AnswerExtractor",
    "BERTConfig",
    "Bart",
    "BartConfig",
    "Conversation",
    "FinetuneConfig",
    "GPTConfig",
    "GenerationConfig",
    "Knowledge",
    "MaskedLM",
    "MinigptError",
    "SequenceClassifier",
    "T5Config",
    "TokenClassifier",
    "Tokenizer",
    "TrainConfig",
    "TrainingError",
    "UserError",
    "Words",
    "answer",
    "classify",
    "cosine_similarities",
    "fill_mask",
    "finetune",
    "from_pretrained",
    "generate_text",
    "generate_texts",
    "load",
    "nearest",
    "read_passages",
    "save",
    "save_pretrained",
    "sentence_vectors",
    "tag",
    "translate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minigpt' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
