"""The settings of fine-tuning; they are the flags of `minigpt finetune` and the record in its output folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from minigpt.errors import UserError
from minigpt.options import check_value, kinds, option

Task = Literal["lm", "chat", "classify", "tag", "answer", "seq2seq", "embed"]

FOR_TASKS = {  # settings that do nothing in the other tasks
    "class_weights": ("classify", "tag"),
    "pair_column": ("classify", "embed"),
    "label_smoothing": ("seq2seq",),
    "judge": ("seq2seq",),
}
LOW_RANK = ("lora_alpha", "lora_targets", "merge")  # settings that do nothing without a lora_rank


@dataclass(frozen=True)
class FinetuneConfig:
    """All settings of one fine-tuning; raises UserError on a value of the wrong type or outside its interval."""

    task: Task = option("classify", "what to learn: text, dialogues, classes, tags, answers, another text, vectors")  # noqa: RUF009
    data: str = option("", "table of examples: .tsv, .csv or .jsonl")
    test: str | None = option(None, "a table like it, to measure on when all is done")
    out: str = option("minigpt-finetuned", "folder for the model, the metrics and the pictures")
    text_column: str = option("text", "text, or words to tag: lm, classify, tag, embed")
    pair_column: str | None = option(None, "second text: classify (if the texts are pairs), embed (needed)")
    label_column: str = option("label", "class, or a tag for each word: classify, tag")
    question_column: str = option("question", "question: answer")
    context_column: str = option("context", "text that the answer is in: answer")
    answer_column: str = option("answer", "answer, word for word, or empty where there is none: answer")
    source_column: str = option("source", "text to read: seq2seq")
    target_column: str = option("target", "text to write: seq2seq")
    messages_column: str = option("messages", "list of objects with role and content: chat")
    held_out: float = option(0.1, "share of the rows to measure on; the same of each class", "(0, 1)")
    epochs: int = option(3, "times that each row is learned from", "[1, 100000]")
    max_steps: int | None = option(None, "steps after which to stop, whatever the epochs", "[1, 1000000000]")
    batch_size: int = option(16, "rows that make a step, of similar lengths", "[1, 1048576]")
    learning_rate: float | None = option(None, "highest learning rate (default: 5e-5, with LoRA 5e-4)", "(0, 1000]")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises; then it falls to 0", "[0, 1]")
    weight_decay: float = option(0.01, "decay, on matrices only", "[0, 1000]")
    grad_clip: float = option(1.0, "largest global norm of the gradient, 0 for no limit", "[0, 1e30]")
    layer_decay: float = option(1.0, "learning rate of each layer over that of the one above it", "(0, 1]")
    freeze: str = option("none", "what stays as it is: none, embeddings, N (embeddings and N layers), all (but the head)")
    label_smoothing: float = option(0.0, "part of each target that is spread over the vocabulary: seq2seq", "[0, 1)")
    class_weights: bool = option(False, "weigh each class by the inverse of how often it occurs: classify, tag")
    eval_interval: int | None = option(None, "steps between evaluations (default: an epoch)", "[1, 1000000000]")
    judge: int = option(0, "held-out texts to write and judge at each evaluation, 0 for none: seq2seq", "[0, 1000000]")
    patience: int = option(0, "evaluations without a better result before training stops, 0 to go on", "[0, 1000000]")
    max_length: int | None = option(None, "longest text in tokens (default: what the model can read)", "[1, 1048576]")
    truncate: bool = option(False, "cut texts that are longer, instead of refusing them")
    lora_rank: int = option(0, "train a change of this rank of some matrices, and no others; 0 for off", "[0, 65536]")
    lora_alpha: float = option(16.0, "that change is scaled by this over the rank", "(0, 1000000]")
    lora_targets: str = option("attention", "whose: attention, all, or names of modules with commas between them")
    merge: bool = option(False, "save a model with the change added, not the adapter alone")
    seed: int = option(1337, "seed of every random choice", "[0, 18446744073709551615]")

    def __post_init__(self) -> None:
        for name in kinds(FinetuneConfig):
            check_value(self, name)
        if not self.data:
            raise UserError("data must name a table of examples")
        if not re.fullmatch(r"none|embeddings|all|\d{1,6}", self.freeze):
            raise UserError(f"freeze must be none, embeddings, all or a number of layers, not {self.freeze!r}")
        if self.lora_rank and self.freeze != "none":
            raise UserError(
                f"freeze {self.freeze} does not go with lora_rank {self.lora_rank}, which trains no matrix as a whole"
            )
        for name in self._given():
            if name in LOW_RANK and not self.lora_rank:
                raise UserError(f"{name} needs a lora_rank, as there is no low-rank change without")
            if self.task not in FOR_TASKS.get(name, (self.task,)):
                known = FOR_TASKS[name]
                raise UserError(f"{name} is for the task{'s' * (len(known) > 1)} {' and '.join(known)}, not {self.task}")
        if self.task == "embed" and self.pair_column is None:
            raise UserError("the task embed needs pair_column, the text that belongs to each text")
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", 5e-4 if self.lora_rank else 5e-5)

    def _given(self) -> Iterator[str]:
        """The names of the settings that are not as they are by default."""
        return (f.name for f in fields(self) if getattr(self, f.name) != f.default)
