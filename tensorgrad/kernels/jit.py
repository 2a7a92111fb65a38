"""The one place that sets compile options, cache and threads for the kernels.

A kernel file is built from these decorators:

    @inline     a scalar helper, inlined where it is used; only contraction (a*b + c in one rounding) is allowed in it,
                so that exact tricks such as (x + c) - c survive
    @pasted     a part of a kernel, such as its loop over a row, compiled within what uses it alone: what is the same for all
                rows is set up once. Code as long as a product's is compiled once, where what is @inline is compiled by
                itself and then again in all that use it
    @serial     a loop over whole arrays or slices, on one thread, without the GIL; may reorder a sum, never more:
                NaN, infinities and signed zeros behave as IEEE says, x / 0 is inf or nan
    @parallel   a driver: a thin `for c in prange(chunks)` that hands slices to serial kernels. `driver(*args)` runs it
                on all threads, `driver.at(work)(*args)` on the calling thread when `work` (elements) is small

Chunks are fixed by the size of the problem, never by the number of threads, so that results do not depend on it.
Compiled code is kept on disk with the constants it has seen: a kernel must get THREADS, or anything else that can
differ between two runs, as an argument. A driver is called from Python, never from another kernel.
"""

import ctypes
import functools
import os
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from tensorgrad.kernels.cache import DiskCache, config, sources_digest

THREADS: int = config.NUMBA_NUM_THREADS
SMALL = 32768  # elements under which launching threads costs more than it saves

if config.THREADING_LAYER_PRIORITY == ["tbb", "omp", "workqueue"]:  # numba's default: the user has not chosen
    config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # fastest launch first


def inline(function: Callable) -> Callable:
    """Compile a scalar helper for use inside kernels."""
    return numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)(function)


def pasted(function: Callable) -> Callable:
    """Compile a part of a kernel within the kernels that use it, with the freedom that they have to reorder a sum."""
    return numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, inline="always")(function)


def serial(function: Callable) -> Callable:
    """Compile a one-thread kernel, callable from Python and from other kernels."""
    return _compile(function, None)


def parallel(function: Callable, signature: tuple | None = None) -> "Driver":
    """Compile a driver whose outer loop is `prange`; with a signature, for those argument types only."""
    return Driver(function, signature)


class Driver:
    """One body compiled in two forms, each when first used: `threaded`, and `serial`, where prange is range.

    Without a signature each new combination of argument types, memory layouts included, is compiled anew. With one,
    arguments are converted to it: an array type of layout "A", read-only and unaligned, takes every array of its dtype
    and dimension.

    Only one Python thread at a time runs a threaded driver: it takes every core anyway, and the workqueue layer aborts
    the process otherwise. A child forked after threads were started cannot use them, so it runs the serial form.
    """

    _lock = threading.Lock()
    _started = _forked = False

    def __init__(self, function: Callable, signature: tuple | None) -> None:
        functools.update_wrapper(self, function)
        self.function, self.signature = function, signature
        sources_digest(Path(function.__code__.co_filename))  # remember the sources as they are now

    @functools.cached_property
    def threaded(self) -> Callable:
        return _compile(self.function, self.signature, parallel=True)

    @functools.cached_property
    def serial(self) -> Callable:
        twin = types.FunctionType(self.function.__code__, self.function.__globals__, self.function.__name__)
        twin.__qualname__ = self.function.__qualname__ + "_serial"  # names the cache file and the machine code's symbol
        return _compile(twin, self.signature)

    def __call__(self, *args: Any) -> Any:
        if Driver._forked:
            _warn_forked()
            return self.serial(*args)
        with Driver._lock:
            Driver._started = True
            return self.threaded(*args)

    def at(self, work: int) -> Callable:
        """The form to use for this much work, in elements touched."""
        return self if work >= SMALL else self.serial

    @staticmethod
    def _after_fork() -> None:
        Driver._lock = threading.Lock()
        Driver._forked = Driver._started


def code_address(kernel: Any, signature: tuple) -> int:
    """Where the machine code of a serial kernel that returns nothing lies, for these argument types, for calls through
    a pointer: a kernel that calls another by name takes in a copy of it and is compiled together with it."""
    kernel.compile(signature)
    result = kernel.overloads[signature]
    return result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)


@functools.cache
def _warn_forked() -> None:
    warnings.warn(
        "forked after threads were started: kernels use one thread here; start processes with 'spawn'",
        RuntimeWarning,
        stacklevel=3,
    )


def _compile(function: Callable, signature: tuple | None, **options: Any) -> Callable:
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, **options)(function)
    if config.DISABLE_JIT:
        return function
    dispatcher._cache = DiskCache(function)
    if signature is not None:
        dispatcher.compile(signature)
        dispatcher.disable_compile()
    return dispatcher


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next array: else each large array is mapped, faulted in and unmapped anew,
    which costs more than filling it."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        if os.confstr("CS_GNU_LIBC_VERSION"):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 1 << 25)  # older glibc allows no more
            mallopt(m_trim_threshold, (1 << 31) - 1)
    except (AttributeError, ValueError, OSError):
        pass  # another C library


_keep_freed_memory()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Driver._after_fork)
