"""Is what should be equal equal? Every equality that training and generation rest on, on a given model, as a number.

Differences of logits are the largest absolute ones; in float32 they may be 1e-5 of the largest logit. Tokens, weights and
what causality protects must be the same to the bit, where the table says 0.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad as tg
from minigpt import checkpoint
from minigpt.check import check_model
from minigpt.config import TrainConfig
from minigpt.generation.beam import beam_search
from minigpt.generation.config import GenerationConfig
from minigpt.generation.context import Context, window_start
from minigpt.generation.decode import decode
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.objectives.objective import IGNORED
from minigpt.tokenizer import Tokenizer
from minigpt.trainer import Trainer

STEPS = 200  # tokens generated, past the end of a small context


@dataclass(frozen=True)
class Equality:
    """One line: it holds if `difference` is at most `limit`; `difference` is None where it could not be measured."""

    name: str
    difference: float | None
    limit: float
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "skipped"
        return "pass" if self.difference <= self.limit else "FAIL"


def verify(folder: Path | str, seed: int = 0) -> Iterator[Equality]:
    """Yield the lines for the model in a folder; UserError if there is none."""
    folder = Path(folder)
    model, tokenizer = checkpoint.load_writer(folder)
    ids = np.random.default_rng(seed).integers(0, model.config.vocab_size, (4, model.config.block_size))
    yield from verify_generation(model, ids)
    yield saved_is_loaded(model, tokenizer)
    yield from verify_training(model, ids)
    yield from verify_engine(model, ids)
    yield engine_is_transformers(model, ids, folder)


def verify_generation(model: GPT, ids: np.ndarray) -> Iterator[Equality]:
    """Lines about generation, from prompts cut out of ids (4, block_size)."""
    short = max(1, ids.shape[1] // 4)
    prompts = [row[:short].tolist() for row in ids]
    unequal = [row[: max(1, ids.shape[1] * part // 8)].tolist() for row, part in zip(ids, (1, 3, 3, 8), strict=True)]
    yield _logits_line(f"cached = uncached, {STEPS} steps", model, prompts[:1], STEPS)
    yield _logits_line("batched = single", model, prompts, 20)
    yield _logits_line("left-padded = unpadded", model, unequal, 20)
    greedy = [_greedy(model, prompt) for prompt in prompts]
    config = GenerationConfig(max_new_tokens=STEPS, temperature=0)
    one_beam = [beam_search(Context(model, [prompt], STEPS), config)[0][0].tokens for prompt in prompts]
    yield Equality("beam(1) = greedy", _different(one_beam, greedy), 0, "tokens")
    guessed = [_greedy(model, prompt, prompt_lookup_num_tokens=5) for prompt in prompts]
    yield Equality("speculative = greedy", _different(guessed, greedy), 0, "tokens")


def _logits_line(name: str, model: GPT, prompts: Sequence[Sequence[int]], steps: int) -> Equality:
    """Greedy decoding of all prompts together, its logits against those of the plain model on each one's window."""
    context, worst, scale, block = Context(model, prompts, steps), 0.0, 1.0, model.config.block_size
    for _ in range(steps):
        logits = context.logits()[:, 0]
        for row, sequence in zip(logits, context.sequences, strict=True):
            plain = _logits(model, [sequence[window_start(len(sequence), block) :]])[0, -1]
            worst, scale = _worse(worst, row, plain), max(scale, float(np.abs(plain).max()))
        context.extend(logits.argmax(axis=1).tolist())
    return Equality(name, worst, 1e-5 * scale, "logits")


def _greedy(model: GPT, prompt: Sequence[int], **settings: Any) -> list[int]:
    config = GenerationConfig(max_new_tokens=STEPS, temperature=0, **settings)
    return [step.token for step in decode(Context(model, [prompt], STEPS), config, [np.random.default_rng(0)])]


def _different(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    return sum(int(np.sum(np.array(a) != np.array(b))) for a, b in zip(ours, theirs, strict=True))


def saved_is_loaded(model: GPT, tokenizer: Tokenizer) -> Equality:
    """A model and its tokenizer, written to a folder and read from it."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(folder, model, tokenizer)
        other, words = checkpoint.load(folder)
    worst = _apart(other.state_dict(), model.state_dict())
    return Equality("saved = loaded", worst if words.pieces == tokenizer.pieces else float("inf"), 0, "weights, tokens")


def verify_training(model: GPT, ids: np.ndarray) -> Iterator[Equality]:
    """Lines about the trainer, which takes a few steps from the model's weights on ids; it makes no models but GPT."""
    if not isinstance(model, GPT):
        for name in ("resumed = uninterrupted", "accumulated = full batch"):
            yield Equality(name, None, 0, f"a {type(model).__name__} is not trained from scratch")
        return

    def trainer(**settings: Any) -> Trainer:
        c = model.config
        sizes = {name: getattr(c, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
        config = TrainConfig(**sizes | {"batch_size": 2, "max_steps": 6, "warmup_steps": 1} | settings)
        made = Trainer(config, np.tile(ids.reshape(-1), 2), c.vocab_size)
        made.model.load_state_dict(model.state_dict())
        return made

    resumable = {"dropout": 0.1, "grad_accum": 2}
    whole, first, second = (trainer(**resumable) for _ in range(3))
    for _ in range(4):
        whole.update()
    for _ in range(2):
        first.update()
    arrays, state = first.state()
    second.restore(first.model.state_dict(), arrays, json.loads(json.dumps(state)))
    for _ in range(2):
        second.update()
    yield Equality("resumed = uninterrupted", _apart(second.model.state_dict(), whole.model.state_dict()), 0, "weights")

    targets = np.roll(ids, -1, axis=1)
    targets[0, 1:] = IGNORED  # the parts have unequal numbers of targets
    plain = {"optimizer": "sgd", "learning_rate": 1.0, "beta1": 0.0, "weight_decay": 0.0, "grad_clip": 0.0, "warmup_steps": 0}
    steps = []
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 2), slice(2, 4)]):
        made = trainer(**plain, schedule="constant", grad_accum=len(parts))
        made.batches = _Given([(ids[part], targets[part]) for part in parts])  # type: ignore[assignment]
        made.update()
        steps.append({name: model.state_dict()[name] - value for name, value in made.model.state_dict().items()})
    scale = max(float(np.abs(value).max()) for value in steps[0].values())
    yield Equality("accumulated = full batch", _apart(*steps), 1e-6 * max(1.0, scale), "gradients")


class _Given:
    """Batches that are known beforehand."""

    def __init__(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.next = iter(batches).__next__


def verify_engine(model: GPT, ids: np.ndarray) -> Iterator[Equality]:
    """Lines about the mathematics: logits and gradients of the model on ids."""
    c, double = model.config, _double(model)
    fast, exact = _logits(model, ids), _logits(double, ids)
    with tg.definitions():
        slow = _logits(double, ids)
    scale = max(1.0, float(np.abs(exact).max()))
    yield Equality("kernels = definitions", _worse(0.0, slow, exact), 1e-12 * scale, "logits, float64")
    part = ids[:2, : min(16, ids.shape[1])]
    with tg.definitions():
        defined = _gradient(double, part)
    yield Equality("kernels = definitions", _apart(_gradient(double, part), defined), 1e-12 * scale, "gradients, float64")
    yield Equality("float32 = float64", _worse(0.0, fast, exact), _rounding(c) * scale, "logits")
    yield causal(model, ids)
    lines = list(check_model(model))
    worst = max(lines, key=lambda line: line.difference / line.limit if line.passed else np.inf)
    yield Equality("gradients = finite differences", worst.difference, worst.limit, f"float64, worst of {len(lines)}")


def _rounding(c: GPTConfig) -> float:
    """What float32 may lose, relative to the largest logit: four products a block, and one at the end, sum up to 4 C terms
    each, and all roundings add up like a random walk."""
    return float(np.finfo(np.float32).eps * np.sqrt(4 * c.n_embd * (4 * c.n_layer + 1)))


def causal(model: GPT, ids: np.ndarray) -> Equality:
    """Another token at t + 1 must leave the logits up to t as they were, to the bit."""
    before, worst = _logits(model, ids[:1]), 0.0
    for t in range(0, ids.shape[1] - 1, max(1, ids.shape[1] // 8)):
        other = ids[:1].copy()
        other[0, t + 1] = (other[0, t + 1] + 1) % model.config.vocab_size
        worst = _worse(worst, _logits(model, other)[:, : t + 1], before[:, : t + 1])
    return Equality("causal: later tokens change nothing", worst, 0, "logits")


def engine_is_transformers(model: GPT, ids: np.ndarray, folder: Path) -> Equality:
    """The folder as transformers reads it, on PyTorch."""
    name = "engine = transformers"
    if find_spec("transformers") is None or find_spec("torch") is None:
        return Equality(name, None, 0, "transformers and torch are not installed")
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = theirs(torch.from_numpy(ids)).logits.numpy()
    return Equality(name, _worse(0.0, _logits(model, ids), logits), 1e-5 * max(1.0, float(np.abs(logits).max())), "logits")


def _logits(model: GPT, ids: Any) -> np.ndarray:
    with tg.no_grad():
        return model(np.asarray(ids)).numpy()


def _double(model: GPT) -> GPT:
    double = type(model)(model.config, np.random.default_rng(0), dtype="float64")
    double.load_state_dict({name: value.astype(np.float64) for name, value in model.state_dict().items()})
    double.eval()
    return double


def _gradient(model: GPT, ids: np.ndarray) -> dict[str, np.ndarray]:
    loss: Callable[[GPT], Any] = lambda m: m.loss(ids, np.roll(ids, -1, axis=1))
    return {name: value.numpy() for name, value in tg.grad(loss)(model).items()}


def _apart(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    worst = 0.0
    for name in ours:
        worst = _worse(worst, ours[name], theirs[name])
    return worst


def _worse(worst: float, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The larger of a difference and another; nan, once met, stays."""
    return float(np.maximum(worst, np.abs(ours - theirs).max()))
