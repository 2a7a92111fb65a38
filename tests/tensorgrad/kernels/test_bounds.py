"""No kernel reads or writes outside its arrays: their tests again, compiled with a check of every index."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ABOUT_COMPILING = {"test_bounds.py", "test_jit.py", "test_cache.py"}


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("NUMBA_BOUNDSCHECK") == "1", reason="this is such a run")
def test_kernels_stay_inside_their_arrays(tmp_path):
    files = sorted(str(file) for file in HERE.glob("test_*.py") if file.name not in ABOUT_COMPILING)
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, env=environment, cwd=HERE.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
