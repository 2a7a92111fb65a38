"""NUMBA_DISABLE_JIT runs the kernels as plain Python, for a debugger: the same numbers."""

import json
import os
import subprocess
import sys

import numpy as np

CODE = """
import json
import numpy as np
import tensorgrad as tg
from minigpt import GPT, GPTConfig

model = GPT(GPTConfig(7, block_size=6, n_layer=1, n_head=2, n_embd=4), np.random.default_rng(0))
optimizer = tg.optim.AdamW(model.parameters(), lr=1e-3)
ids = np.random.default_rng(1).integers(0, 7, (2, 6))
for _ in range(2):
    optimizer.zero_grad()
    loss = model.loss(ids, ids)
    loss.backward()
    norm = tg.optim.clip_grad_norm(model.parameters(), 0.5)
    optimizer.step()
print(json.dumps([loss.item(), float(norm), *[p.numpy().ravel().tolist() for p in model.parameters()]]))
"""


def numbers(**environment):
    done = subprocess.run([sys.executable, "-c", CODE], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_steps():
    """Case 160."""
    for plain, compiled in zip(numbers(NUMBA_DISABLE_JIT="1"), numbers(), strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-6)
