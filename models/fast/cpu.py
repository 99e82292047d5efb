"""Forms that are fast on a CPU, where MLX's convolution and its many small operations are not.

They compute in float32 and return their input's dtype, as a GPU that accumulates in float32 does.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from samevoice.machine import CONTAINER

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Floats = NDArray[np.float32]
Share = Callable[[Callable[[int], None], Iterable[int]], None]


def conv1d(x: mx.array, weight: mx.array, stride: int, dilation: int, padding: int) -> mx.array:
    """(B, T, I), (O, K, I), K odd -> (B, T', O): a product for each tap.

    MLX's own takes many times as long where it dilates.
    """
    taps = weight.astype(mx.float32).transpose(1, 2, 0)
    padded = x.astype(mx.float32)
    if padding:
        padded = mx.pad(padded, [(0, 0), (padding, padding), (0, 0)])
    count = padded.shape[1] - (taps.shape[0] - 1) * dilation
    total: mx.array | None = None
    for number, tap in enumerate(taps):
        start = number * dilation
        run = padded[:, start : start + count : stride]
        total = run @ tap if total is None else mx.addmm(total, run, tap)
    assert total is not None
    return total.astype(x.dtype)


def conv2d(x: mx.array, weight: mx.array, stride: tuple[int, int]) -> mx.array:
    """(B, F, T, I), (O, K, K, I), K 1 or 3 -> (B, ceil(F / stride), ceil(T / stride), O)."""
    down, across = stride
    taps = weight.astype(mx.float32).transpose(1, 2, 3, 0)
    wide = x.astype(mx.float32)
    if taps.shape[0] == 1:
        return (wide[:, ::down, ::across] @ taps[0, 0]).astype(x.dtype)
    # Item by item: one image's sums stay in the cache, a batch's do not.
    items = [shifted_matmuls(image, taps, stride) for image in wide]
    return mx.stack(items).astype(x.dtype)


def shifted_matmuls(image: mx.array, taps: mx.array, stride: tuple[int, int]) -> mx.array:
    """(F, T, I), (3, 3, I, O) -> (F', T', O): a matrix product for each of the nine taps.

    In the padded image, flattened to rows of I, each tap reads one unbroken run of rows. Each
    output line ends in a few products that straddle two lines; they are cut off at the end.
    """
    height, width, channels = image.shape
    down, across = stride
    rows, cols = -(-height // down), -(-width // across)
    # How far, in output steps, the last tap lies below and behind the first.
    line = cols + 2 // across
    below, right = down * (rows + 2 // down + 1) - 1 - height, across * line - 1 - width
    padded = mx.pad(image, [(1, below), (1, right), (0, 0)])
    # With stride 2 even and odd rows or columns become images of their own.
    phases = {
        (a, b): padded[a::down, b::across].reshape(-1, channels)
        for a in range(down)
        for b in range(across)
    }
    total: mx.array | None = None
    for dy in range(3):
        for dx in range(3):
            start = (dy // down) * line + dx // across
            run = phases[dy % down, dx % across][start : start + rows * line]
            tap = taps[dy, dx]
            total = run @ tap if total is None else mx.addmm(total, run, tap)
    assert total is not None
    return total.reshape(rows, line, -1)[:, :cols]


# Norms --------------------------------------------------------------------------------------------


def layer_norm(x: Floats, affine: tuple[Floats, Floats], epsilon: float) -> Floats:
    """(..., C) in place: each row to mean 0 and variance 1, then scaled and shifted."""
    x -= x.mean(axis=-1, keepdims=True)
    squares = np.square(x).mean(axis=-1, keepdims=True)
    x *= 1 / np.sqrt(squares + np.float32(epsilon))
    x *= affine[0]
    x += affine[1]
    return x


# GELU ---------------------------------------------------------------------------------------------

# GELU is x times the normal distribution up to x, which is a sigmoid of x p(x^2): a fit of p from
# the constant on, up to where the rest of the distribution is rounded off. Its error is half of
# that of torch's own GELU.
_FIT = (
    *(1.5957713847652346, 0.07265998825858809, -5.843884222415919e-05, -0.00011360886292447478),
    *(8.55741092783414e-06, -3.29220920260513e-07, 6.620853568043398e-09, -5.444544823607822e-11),
)
_FIT_END = np.float32(5.8**2)
_BLOCK = 1 << 15  # numbers that stay in the cache


def gelu(x: Floats, share: Share | None = None) -> Floats:
    """GELU in place, of any shape that lies in one piece."""
    flat = x.reshape(-1)
    starts = range(0, flat.size, _BLOCK)
    share = share or (shared() if len(starts) > 1 else alone)
    share(lambda start: _gelu(flat[start : start + _BLOCK]), starts)
    return x


@np.errstate(over="ignore")  # infinite: nothing is left of a large negative number
def _gelu(x: Floats) -> None:
    squares = x * x
    np.minimum(squares, _FIT_END, out=squares)
    fit = squares * np.float32(_FIT[-1])
    for coefficient in _FIT[-2:0:-1]:
        fit += np.float32(coefficient)
        fit *= squares
    fit += np.float32(_FIT[0])
    fit *= x
    np.negative(fit, fit)
    np.exp(fit, fit)
    fit += np.float32(1)
    np.divide(x, fit, out=x)


@np.errstate(over="ignore")  # infinite: nothing is left of a large negative number
def gelu_tanh(x: Floats) -> Floats:
    """GELU by way of tanh, in place: tanh of u stands in it as a sigmoid of 2u."""
    fit = x * x
    fit *= np.float32(-2 * math.sqrt(2 / math.pi) * 0.044715)
    fit -= np.float32(2 * math.sqrt(2 / math.pi))
    fit *= x
    np.exp(fit, fit)
    fit += np.float32(1)
    np.divide(x, fit, out=x)
    return x


@np.errstate(over="ignore")  # infinite: such a gate is shut
def gated(x: Floats, gates: Floats) -> Floats:
    """x times the sigmoid of its gates; of itself, that is SiLU."""
    found = np.negative(gates)
    np.exp(found, found)
    found += np.float32(1)
    return np.divide(x, found, out=found)


# Attention ----------------------------------------------------------------------------------------

_SCORES = 1 << 17  # that stay in the cache


def attention(
    query: Floats,
    key: Floats,
    value: Floats,
    bias: Floats | None = None,
    gates: Floats | None = None,
    *,
    share: Share | None = None,
) -> Floats:
    """(B, H, T, W) three times, the query scaled; ``bias`` (H, T, T), ``gates`` (B, H, T, 1).

    Some rows of a head at a time, so that what softmax takes stays in the cache and no larger array
    is made; numpy's exponential takes a twentieth of MLX's time, and its sums round less. Each
    thread writes into the same two arrays all the time: fresh ones cost a third of the time.
    """
    batch, heads, frames, width = query.shape
    found = np.empty((batch, frames, heads, width), dtype=np.float32)
    step = min(frames, max(1, _SCORES // frames))
    parts = -(-frames // step)
    own = local()

    def work(number: int) -> None:
        number, part = divmod(number, parts)
        item, head = divmod(number, heads)
        rows = slice(part * step, min((part + 1) * step, frames))
        if not hasattr(own, "arrays"):
            own.arrays = np.empty((2, step, frames), dtype=np.float32)
        scores, gated = own.arrays[:, : rows.stop - rows.start]
        np.matmul(query[item, head, rows], key[item, head].T, out=scores)
        if bias is not None:
            one = bias[head, rows]
            scores += one if gates is None else np.multiply(one, gates[item, head, rows], out=gated)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, scores)
        sums = scores.sum(axis=-1, keepdims=True)
        np.divide(scores @ value[item, head], sums, out=found[item, rows, head])

    with one_blas_thread():
        (share or shared())(work, range(batch * heads * parts))
    return found


# An LSTM ------------------------------------------------------------------------------------------

# Rows of the input that are multiplied with Wx at once: enough for the product to run at full
# speed, few enough for its result to be in the cache when the steps want it. Sixteen chunks take a
# fifth longer with four times as many.
ROWS = 128


@dataclass(frozen=True)
class Gates:
    """A layer's weights for W directions by gates i, f, o, cell; those with a sigmoid negated.

    A gate for itself makes each product small enough for OpenBLAS to leave out its packing, and
    the three sigmoids' numbers lie in one piece.
    """

    wx: Floats  # (4, W, D, H)
    wh: Floats  # (4, W, H, H)
    bias: Floats  # (4, W, 1, H)

    @classmethod
    def of(cls, ways: Iterable[tuple[Floats, Floats, Floats]]) -> Gates:
        """Each direction's Wx (4H, D), Wh (4H, H) and bias (4H,), by gates i, f, g, o."""
        wx, wh, bias = zip(*ways, strict=True)
        return cls(_by_gate(wx), _by_gate(wh), _by_gate([one[:, None] for one in bias]))


def _by_gate(weights: Sequence[Floats]) -> Floats:
    """A (4H, D) for each of W directions -> (4, W, D, H)."""
    parts = np.stack([one.reshape(4, -1, one.shape[1]) for one in weights], axis=1)
    turned = parts[[0, 1, 3, 2]].swapaxes(2, 3).astype(np.float32)
    turned[:3] *= -1
    return np.ascontiguousarray(turned)


def recur(
    inputs: Sequence[Floats], gates: Gates, state: tuple[Floats, ...] | None = None
) -> Floats:
    """An LSTM layer in numpy: (T, B, D) for each direction, in its own order -> (T, W, B, H).

    ``state``: hidden and cell (W, B, H), with which it goes on and which it brings up to date.

    The input's products run a block ahead of the steps, on another core where there is one. The
    steps themselves stay on one: a direction or half a batch on each of two threads took 1.1 to 1.5
    times the processor time, as the threads wait for the interpreter between any two calls.
    """
    steps, batch, _ = inputs[0].shape
    ways, units = gates.wh.shape[1:3]
    states = np.zeros((steps + 1, ways, batch, units), dtype=np.float32)
    cell = np.zeros_like(states[0])
    if state is not None:
        states[0], cell = state
    with one_blas_thread(), np.errstate(over="ignore"):
        # exp(100) is infinite, and its sigmoid rightly 0
        done = 0
        for projected in _projected(inputs, gates):
            count = projected.shape[2]
            _step(states[done : done + count + 1], cell, projected, gates.wh)
            done += count
    if state is not None:
        state[0][:] = states[-1]
    return states[1:]


def _projected(inputs: Sequence[Floats], gates: Gates) -> Iterator[Floats]:
    """Blocks of (4, W, T', B, H): inputs times Wx, and the bias."""
    steps, batch, _ = inputs[0].shape
    count = max(4, ROWS // max(batch, 1))
    shape = (*gates.bias.shape[:2], count * batch, gates.bias.shape[3])
    # One is written while the other is read.
    buffers = [np.empty(shape, dtype=np.float32) for _ in range(2)]

    def project(start: int) -> Floats:
        rows = np.stack([one[start : start + count] for one in inputs])
        size = rows.shape[1]
        flat = rows.reshape(len(inputs), size * batch, -1)
        made: Floats = buffers[start // count % 2][:, :, : size * batch]
        np.matmul(flat, gates.wx, out=made)
        made += gates.bias
        return made.reshape(*shape[:2], size, batch, shape[3])

    return ahead(project, range(0, steps, count))


def _step(states: Floats, cell: Floats, projected: Floats, wh: Floats) -> None:
    """(T + 1, W, B, H), of which the first is known, and (W, B, H): both are written to."""
    gates, change = np.empty((4, *cell.shape), dtype=np.float32), np.empty_like(cell)
    sigmoids, fresh = gates[:3], gates[3]
    i, f, o = sigmoids
    one = np.float32(1)
    hidden = states[0]
    # Results go where the last argument says: naming it costs a thirtieth of one chunk's time.
    for fed, after in zip(projected.swapaxes(0, 2).swapaxes(1, 2), states[1:], strict=True):
        np.matmul(hidden, wh, gates)
        np.add(gates, fed, gates)
        # Not by way of tanh: (1 + tanh(x / 2)) / 2 has no digits left where a gate is shut.
        np.exp(sigmoids, sigmoids)
        np.add(sigmoids, one, sigmoids)
        np.reciprocal(sigmoids, sigmoids)
        np.tanh(fresh, fresh)
        np.multiply(i, fresh, change)
        np.multiply(cell, f, cell)
        np.add(cell, change, cell)
        np.tanh(cell, change)
        np.multiply(o, change, after)
        hidden = after


# Threads ------------------------------------------------------------------------------------------


_most: ContextVar[int | None] = ContextVar("most_cores", default=None)


def cores() -> int:
    """Those that this process may have now."""
    return min(all_cores(), _most.get() or all_cores())


@contextmanager
def on_cores(most: int) -> Iterator[None]:
    """Within this, no more than so many."""
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)


def all_cores() -> int:
    """Those that system, container and OMP_NUM_THREADS leave this process."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) else here
    return max(1, math.ceil(min(here, most, quota(CONTAINER))))


@cache
def quota(folder: Path) -> float:
    """How many cores' time a control group leaves, by its second version's files or its first's."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            words = " ".join((folder / name).read_text() for name in names).split()
            most, period = map(float, words)
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if most > 0:
            return most / period
    return math.inf


@cache
def pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # with it comes logging, which takes a while

    return ThreadPoolExecutor(all_cores(), thread_name_prefix="samevoice")


def together(work: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Numbers shared out among the cores."""
    for _ in pool().map(work, numbers):
        pass


def alone(work: Callable[[int], None], numbers: Iterable[int]) -> None:
    """One number after the other."""
    for number in numbers:
        work(number)


def shared() -> Share:
    """Among all cores, where there are several."""
    return together if cores() > 1 else alone


def strips(work: Callable[[slice], object], count: int, share: Share, size: int = 128) -> None:
    """So many rows, shared out in strips that begin at the same places for any number of cores."""

    def strip(start: int) -> None:
        work(slice(start, min(start + size, count)))

    share(strip, range(0, count, size))


def stacked(count: int, run: Callable[[int, Share], Floats]) -> Floats:
    """What ``run`` gives for each number: a core each where they suffice, else all for each."""
    found: list[Floats] = [np.empty(0, dtype=np.float32)] * count
    several = cores() > 1
    each = count >= cores()

    def work(number: int) -> None:
        found[number] = run(number, together if several and not each else alone)

    (together if several and each else alone)(work, range(count))
    return np.stack(found)


def ahead(make: Callable[[int], Floats], numbers: Iterable[int]) -> Iterator[Floats]:
    """What ``make`` gives for each number, the next one made while the last one is used."""
    if cores() == 1:
        yield from map(make, numbers)
        return
    coming: Future[Floats] | None = None
    for number in numbers:
        before, coming = coming, pool().submit(make, number)
        if before is not None:
            yield before.result()
    if coming is not None:
        yield coming.result()


# How many callers want one thread, and what there was before the first of them.
_lock = Lock()
_callers, _before = 0, 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """numpy's OpenBLAS on a single thread, where it has brought one.

    A step's product is small. On a busy machine two threads that spin for each other have been
    seen to take fifty times as long as one.
    """
    global _callers, _before
    # The setting is the whole process's: another thread may still be in here when this one leaves.
    read, write = _openblas()
    with _lock:
        if read and not _callers:
            _before = read()
            write(1)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if write and not _callers:
                write(_before)


@cache
def _openblas() -> tuple[Any, Any]:
    """The functions that read and set its number of threads, or Nones."""
    libraries = (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*")
    for library in map(ctypes.CDLL, map(str, libraries)):
        for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads"):
            if hasattr(library, name.format("get")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None, None
