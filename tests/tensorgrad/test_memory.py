"""What a training step asks of the operating system: after the first steps, nothing."""

import os

import numpy as np
import pytest

import tensorgrad as tg
from minigpt.models.gpt import GPT, GPTConfig

resource = pytest.importorskip("resource")


def glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):
        return False


@pytest.mark.skipif(not glibc(), reason="only glibc's malloc can be asked to keep freed memory")
def test_a_steady_step_faults_no_pages():
    model = GPT(GPTConfig(65, 64, n_layer=1), np.random.default_rng(0))
    optimizer = tg.optim.AdamW(model.parameters())
    ids = np.random.default_rng(1).integers(0, 65, (12, 65))

    def faults_of_twenty_steps() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            optimizer.zero_grad()
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            tg.optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # Twenty steps write some 30,000 pages.  The first few settle the heap, above all after kernels were compiled.
    assert min(faults_of_twenty_steps() for _ in range(4)) < 20
