"""What this machine can do at most: products in float32, and copies, on one core and on all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from samevoice.models.diarization.memory import available_memory
from samevoice.models.fast.cpu import Floats, cores, one_blas_thread, together

SIDE = 3072  # of a square matrix: 0.3 to 0.6 TFLOP/s need it to be large
SMALL = 1 << 19  # bytes, a quarter of a core's second cache or less
LARGEST = 1 << 30
MOVED = 1 << 28  # bytes, by as many small copies as make a copy worth timing
TRIES = 3


def measured() -> Mapping[str, Any]:
    """Rows of what, operations or bytes, and seconds; and what one core does of both a second."""
    products, copies = list(_products()), list(_copies())
    alone = [nbytes / seconds for what, nbytes, seconds in copies if what.endswith(", 1 core")]
    _, flop, seconds = products[0]
    return {
        "products": products,
        "copies": copies,
        "flops": flop / seconds,
        "bandwidth": alone[-1],
    }


def _products() -> Iterator[tuple[str, float, float]]:
    a, b = np.random.default_rng(0).random((2, SIDE, SIDE), dtype=np.float32)
    made = np.empty_like(a)
    for count, threads in ((1, one_blas_thread()), (cores(), nullcontext())):
        with threads:
            seconds = _best(lambda: np.matmul(a, b, out=made))
        yield f"product, {_many(count)}", 2.0 * SIDE**3, seconds


def _copies() -> Iterator[tuple[str, float, float]]:
    """Bytes read and written; each core copies its own part."""
    large = int(min(LARGEST, available_memory() // 8, max(4 * SMALL, 2 * _last_cache())))
    for name, size in (("in L2", SMALL), (f"of {large / 1e6:.0f} MB", large)):
        for count in dict.fromkeys((1, cores())):
            numbers = (SMALL if size == SMALL else size // count) // 4
            source, target = np.ones((2, count, numbers), np.float32)
            times = max(1, MOVED // source.nbytes)
            seconds = _best(partial(_copy, source, target, times)) / times
            yield f"copy {name}, {_many(count)}", 2.0 * source.nbytes, seconds


def _copy(source: Floats, target: Floats, times: int) -> None:
    def one(part: int) -> None:
        for _ in range(times):
            np.copyto(target[part], source[part])

    together(one, range(len(source)))


def _last_cache() -> int:
    """Bytes, or 0 where the system does not say."""
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = [one.read_text().strip() for one in found]
    return max((int(size[:-1]) << 10 for size in sizes if size.endswith("K")), default=0)


def _best(run: Callable[[], object]) -> float:
    def timed() -> float:
        began = perf_counter()
        run()
        return perf_counter() - began

    return min(timed() for _ in range(TRIES))


def _many(count: int) -> str:
    return f"{count} core{'s' * (count > 1)}"
