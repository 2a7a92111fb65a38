"""The architecture, executable: who may import whom, that the README's map is the disk, that public names are documented."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import tensorgrad as tg

ROOT = Path(__file__).parent.parent

# Each file of tensorgrad may import from its own line's left and from the lines above, so the whole has no cycle.
LAYERS = [
    ["kernels"],
    ["graph"],
    ["tree", "modes", "random", "creation"],
    ["autodiff", "trace"],
    ["draw", "cost", "render"],
    ["ops.kinds"],
    ["ops.elementwise", "ops.shape", "ops.index"],
    ["ops.reduce", "ops.linalg", "ops.implicit", "ops.conv"],
    ["ops.fused"],
    ["transforms", "linalg", "syntax"],
    ["array_api", "numpy_protocol"],
    ["nn", "problem", "check", "curvature", "anomaly"],
    ["optim"],
]
