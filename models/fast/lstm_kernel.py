"""An LSTM's recurrence as one kernel, for Metal and for CUDA, where it has proven itself.

The plain graph launches some ten operations a step, and a step is too small to be worth one launch.
Here one group of threads runs all steps of one row of the batch in one direction: each thread sums
up some of the gates, then, when all sums are there, moves some of the units on.

It ran on an NVIDIA H200, and on no Metal device yet. So it is compared with the plain graph, at its
first use for a device, a type and a size, on a small input whose truth is known in float64. Where
it is wrong or does not run it is left out with one warning. The environment variable SAMEVOICE_LSTM
holds ``graph`` to leave it out at once.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import mlx.core as mx
import numpy as np

from samevoice.errors import SlowerWarning
from samevoice.models import backend
from samevoice.models.fast.check import CheckResult, check, first_line
from samevoice.models.layers import as_float64

Recurrence = Callable[[mx.array, mx.array], mx.array]

# What a group shares is 24 bytes a unit: of the 32 KB that Metal gives a group, 24 KB at most.
MOST_UNITS = 1024
# Fewer than the 1024 that devices allow, so that a kernel that needs many registers still starts.
MOST_THREADS = 512
# All steps are one launch, and a system ends what keeps its GPU for seconds. Nobody measured where:
# these leave room for several of the usual batches (589 steps, 32 items, 128 units).
MOST_STEPS = 1 << 15
MOST_VALUES = 1 << 27
DTYPES = (mx.float32, mx.float16, mx.bfloat16)


# The kernel ---------------------------------------------------------------------------------------


# gates (T, W, B, 4H), wh (W, H, 4H) -> states (T, W, B, H). Four sums side by side wait less for
# each other than one, and round off less. Neighbouring threads read neighbouring weights. Inputs
# are never passed on as pointers: Metal has those of fewer than eight values in other memory.
BODY = """
  SHARED float hidden[H];
  SHARED float cell[H];
  SHARED float sums[4 * H];
  const int rows = gates_shape[1] * gates_shape[2];
  const size_t weights = size_t(group / gates_shape[2]) * H * 4 * H;
  // Where each thread has one gate, its first weights stay in registers: on an H200 a layer of 128
  // units then takes 1.4 ms for 589 steps, instead of 2.9.
  constexpr int KEPT = (H < KEEP ? H : KEEP) / 4 * 4;
  float kept[KEPT > 0 ? KEPT : 1];
  const bool keeps = 4 * H <= lanes;
  for (int unit = 0; keeps && unit < KEPT; ++unit) {
    const size_t place = weights + size_t(unit) * 4 * H + lane;
    kept[unit] = lane < 4 * H ? static_cast<float>(wh[place]) : 0.0f;
  }
  for (int unit = lane; unit < H; unit += lanes) {
    hidden[unit] = 0.0f;
    cell[unit] = 0.0f;
  }
  TOGETHER();
  for (int step = 0; step < gates_shape[0]; ++step) {
    const size_t row = size_t(step) * rows + group;
    for (int gate = lane; gate < 4 * H; gate += lanes) {
      float s[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int unit = 0; keeps && unit < KEPT; ++unit) {
        s[unit % 4] += hidden[unit] * kept[unit];
      }
      int unit = keeps ? KEPT : 0;
      UNROLLED
      for (; unit + 3 < H; unit += 4) {
        for (int k = 0; k < 4; ++k) {
          const size_t place = weights + size_t(unit + k) * 4 * H + gate;
          s[k] += hidden[unit + k] * static_cast<float>(wh[place]);
        }
      }
      for (; unit < H; ++unit) {
        s[0] += hidden[unit] * static_cast<float>(wh[weights + size_t(unit) * 4 * H + gate]);
      }
      const float fed = static_cast<float>(gates[row * 4 * H + gate]);
      sums[gate] = fed + ((s[0] + s[1]) + (s[2] + s[3]));
    }
    // All of hidden was read, and all of sums is there.
    TOGETHER();
    for (int unit = lane; unit < H; unit += lanes) {
      const float i = lstm_sigmoid(sums[unit]);
      const float f = lstm_sigmoid(sums[H + unit]);
      const float g = TANH(sums[2 * H + unit]);
      const float o = lstm_sigmoid(sums[3 * H + unit]);
      cell[unit] = f * cell[unit] + i * g;
      hidden[unit] = o * TANH(cell[unit]);
      states[row * H + unit] = static_cast<T>(hidden[unit]);
    }
    // All of sums was read, and all of hidden is there.
    TOGETHER();
  }
"""


@dataclass(frozen=True)
class Language:
    """What differs between the two, as words that the body is written in."""

    maker: str  # the function of mx.fast that compiles it
    header: str
    opening: str
    body: str = BODY

    @property
    def source(self) -> str:
        return self.opening + self.body

    @property
    def name(self) -> str:
        # With the text in it: MLX keeps what it compiled for CUDA by name, on the disk as well, and
        # would run an older text of the same name.
        text = self.header + self.source
        return f"samevoice_lstm_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


SIGMOID = """
FUNCTION float lstm_sigmoid(float x) {
  // Of -|x|: nothing overflows, and a gate that is nearly shut keeps its digits.
  const float e = EXP(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
"""

METAL = Language(
    "metal_kernel",
    """
#define FUNCTION inline
#define SHARED threadgroup
#define KEEP 0
#define UNROLLED
#define TOGETHER() threadgroup_barrier(metal::mem_flags::mem_threadgroup)
#define EXP metal::precise::exp
#define TANH metal::precise::tanh
"""
    + SIGMOID,
    # MLX declares these three because it finds their names here; in the header it would not.
    """
  const int lane = int(thread_position_in_threadgroup.x);
  const int lanes = int(threads_per_threadgroup.x);
  const int group = int(threadgroup_position_in_grid.x);
""",
)

CUDA = Language(
    "cuda_kernel",
    """
#define FUNCTION __device__ inline
#define SHARED alignas(16) __shared__
#define KEEP 64
#define UNROLLED _Pragma("unroll 4")
#define TOGETHER() __syncthreads()
#define EXP expf
#define TANH tanhf
"""
    + SIGMOID,
    """
  const int lane = int(threadIdx.x);
  const int lanes = int(blockDim.x);
  const int group = int(blockIdx.x);
""",
)


@cache
def compiled(language: Language) -> Any:
    """The kernel; MLX compiles it for a type and a size when it first runs with them."""
    make = getattr(mx.fast, language.maker)
    return make(
        name=language.name,
        input_names=["gates", "wh"],
        output_names=["states"],
        source=language.source,
        header=language.header,
    )


def threads(units: int) -> int:
    """As many as there are gates, in whole warps, within the limit."""
    return min(MOST_THREADS, -(-4 * units // 32) * 32)


def run(language: Language, gates: mx.array, wh: mx.array) -> mx.array:
    """(T, W, B, 4H), (W, H, 4H) -> (T, W, B, H): input products already in gates, W directions."""
    steps, ways, batch, width = gates.shape
    units = width // 4
    group = threads(units)
    # Of both kinds MLX wants the grid in threads, not in groups.
    (states,) = compiled(language)(
        inputs=[gates, wh],
        template=[("T", gates.dtype), ("H", units)],
        grid=(group * ways * batch, 1, 1),
        threadgroup=(group, 1, 1),
        output_shapes=[(steps, ways, batch, units)],
        output_dtypes=[gates.dtype],
    )
    found: mx.array = states
    return found


def language() -> Language | None:
    """What the GPU of this machine is programmed in; None without one."""
    if mx.metal.is_available():
        return METAL
    return CUDA if mx.cuda.is_available() else None


def fits(gates: mx.array, wh: mx.array) -> bool:
    """Whether the kernel takes these; what it does not take is the graph's."""
    short = gates.shape[0] <= MOST_STEPS and 0 < gates.size <= MOST_VALUES
    return short and wh.shape[1] <= MOST_UNITS and gates.dtype == wh.dtype and gates.dtype in DTYPES


# Its proof ----------------------------------------------------------------------------------------


def chosen(gates: mx.array, wh: mx.array, plain: Recurrence) -> Recurrence:
    """The kernel where it has proven itself for what is wanted, else ``plain``."""
    if os.environ.get("SAMEVOICE_LSTM", "").lower() == "graph":
        return plain
    written_in = language()
    if written_in is None or not fits(gates, wh):
        return plain
    if not _checks.trusts(written_in, gates.dtype, wh.shape[1], plain):
        return plain
    return lambda gates, wh: run(written_in, gates, wh)


def examine(written_in: Language, dtype: mx.Dtype, units: int, plain: Recurrence) -> CheckResult:
    """The kernel and the plain graph on one small input, on the default device."""
    gates, wh = sample(dtype, units)
    return check(truth(gates, wh), lambda: plain(gates, wh), lambda: run(written_in, gates, wh))


def sample(dtype: mx.Dtype, units: int) -> tuple[mx.array, mx.array]:
    """(24, 2, 3, 4H), (2, H, 4H), always the same: gates wide open, nearly shut and in between."""
    # numpy's, with a seed of its own: what the user draws from mx.random stays what it was.
    rng = np.random.default_rng(20)
    loudness = 10 ** rng.uniform(-1, 1.3, 4 * units)
    gates = rng.standard_normal((24, 2, 3, 4 * units)) * loudness
    wh = rng.uniform(-1, 1, (2, units, 4 * units)) / np.sqrt(units)
    made = (mx.array(x.astype(np.float32)).astype(dtype) for x in (gates, wh))
    return next(made), next(made)


def truth(gates: mx.array, wh: mx.array) -> np.ndarray:
    """(T, W, B, 4H), (W, H, 4H) -> (T, W, B, H) in float64, on the host."""
    from scipy.special import expit

    weights = as_float64(wh)
    hidden = np.zeros((*gates.shape[1:3], weights.shape[1]))
    cell, states = hidden, []
    for fed in as_float64(gates):
        i, f, g, o = np.split(fed + hidden @ weights, 4, axis=-1)
        cell = expit(f) * cell + expit(i) * np.tanh(g)
        hidden = expit(o) * np.tanh(cell)
        states.append(hidden)
    return np.stack(states)


class Checks:
    """What was found of each device, type and size; each is examined once, by one thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[tuple[str, str, int], str] = {}
        self._warned = False

    def trusts(self, written_in: Language, dtype: mx.Dtype, units: int, plain: Recurrence) -> bool:
        key = str(mx.default_device()), str(dtype), units
        with self._lock:
            if key not in self._found:
                self._found[key] = _fault(written_in, dtype, units, plain)
                self._warn(key, self._found[key])
            return not self._found[key]

    def _warn(self, key: tuple[str, str, int], fault: str) -> None:
        if not fault or self._warned:
            return
        self._warned = True
        _, dtype, units = key
        name = backend.device_name(mx.default_device())
        warnings.warn(
            f"the LSTM kernel is left out on {name} ({dtype.rpartition('.')[2]}, {units} units): "
            f"{fault}; the plain graph runs instead, as right and slower "
            "(samevoice doctor --self-test says more)",
            SlowerWarning,
            stacklevel=2,
        )


def _fault(written_in: Language, dtype: mx.Dtype, units: int, plain: Recurrence) -> str:
    try:
        return examine(written_in, dtype, units, plain).fault
    except Exception as error:  # of the plain graph; let it fail where it is wanted
        return first_line(error)


_checks = Checks()
