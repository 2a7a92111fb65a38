"""The peer of `minigpt train --data FILE`: the same training of the same small GPT in PyTorch, as nanoGPT does it.

    python benchmarks/torch_train.py --data FILE --out FOLDER

Split, batches, schedule, clipping, the number of steps and of evaluated windows are minigpt's defaults; each evaluation
saves the model.  What minigpt does besides, three baselines, a sample and a plot, is left out.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch_gpt import TorchGPT, decay_groups

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
STEPS, WARM_UP, EVERY, BATCHES = 2000, 100, 250, 20  # the last evaluation takes ten times as many batches
HIGHEST, LOWEST = 1e-3, 1e-4


def initialise(model: TorchGPT) -> None:
    """Normal(0, 0.02), smaller at the ends of residual branches; biases 0."""
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            torch.nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if name.endswith("c_proj.weight") else 0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(p)


def windows(tokens: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    cut = tokens[starts[:, None] + torch.arange(CONTEXT + 1)]
    return cut[:, :-1].contiguous(), cut[:, 1:].contiguous()


def learning_rate(step: int) -> float:
    if step < WARM_UP:
        return HIGHEST * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / (STEPS - WARM_UP)
    return LOWEST + (HIGHEST - LOWEST) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def evaluate(model: TorchGPT, tokens: torch.Tensor, batches: int) -> float:
    whole = (len(tokens) - 1) // CONTEXT
    count = min(whole, batches * BATCH)
    starts = torch.arange(count) * whole // count * CONTEXT
    losses = [model.loss(*windows(tokens, chosen)).item() * len(chosen) for chosen in starts.split(BATCH)]
    return sum(losses) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    text = Path(options.data).read_text(encoding="utf-8")
    characters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = np.array([characters[c] for c in text])
    train, validation = (torch.from_numpy(part) for part in np.split(ids, [len(ids) * 9 // 10]))
    torch.manual_seed(1337)
    model = TorchGPT(len(characters), CONTEXT, LAYERS, HEADS, WIDTH, flash=True)
    initialise(model)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=HIGHEST, betas=(0.9, 0.99))
    with open(Path(options.out, "metrics.jsonl"), "w", encoding="utf-8") as metrics:
        for step in range(1, STEPS + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step - 1)
            optimizer.zero_grad(set_to_none=True)
            loss = model.loss(*windows(train, torch.randint(len(train) - CONTEXT, (BATCH,))))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % EVERY == 0:
                value = evaluate(model, validation, BATCHES * (10 if step == STEPS else 1))
                torch.save(model.state_dict(), Path(options.out, "model.pt"))
                metrics.write(json.dumps({"step": step, "loss": loss.item(), "val_loss": value}) + "\n")


if __name__ == "__main__":
    main()
