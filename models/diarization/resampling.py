"""From any sample rate to another, block by block: the windowed sinc that pyannote resamples with.

The filter decides what the networks hear. A sharper one moves an embedding of telephone speech
(8 kHz) by 0.2, so this one is torchaudio's default: six zero crossings under a Hann window, rolled
off at 0.99 of the lower Nyquist frequency, and ceil(N * rate / source_rate) samples come out.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

CROSSINGS = 6
ROLLOFF = 0.99


class Resampler:
    """Feed blocks of any length, then ``end``; the output does not depend on where they were cut.

    With ``down`` and ``up`` the two rates in lowest terms, output j lies at input j * down / up.
    Outputs are computed in periods of ``up``, which begin on an input sample each.
    """

    def __init__(self, source_rate: int, rate: int) -> None:
        common = gcd(source_rate, rate)
        self.down, self.up = source_rate // common, rate // common
        self._filter, self._reach, self._delay = _filter(self.down, self.up)
        # Periods of silence before the first sample, as many as the filter reaches back.
        self._before = -(-self._reach // self.down)
        self._held: Samples = np.zeros(self._before * self.down, np.float32)
        self._taken = self._given = 0

    def feed(self, block: Samples) -> Samples:
        """(N,) -> (M,): what can be computed so far, which may be nothing."""
        self._taken += len(block)
        self._held = np.concatenate([self._held, block])
        after = len(self._held) - self._before * self.down
        return self._periods(max(0, (after - self._reach) // self.down))

    def end(self) -> Samples:
        """What is left, with silence behind the last sample."""
        left = -(-self._taken * self.up // self.down) - self._given
        periods = -(-left // self.up)
        self._held = np.pad(self._held, (0, periods * self.down + self._reach))
        return self._periods(periods)[:left]

    def _periods(self, count: int) -> Samples:
        if count == 0:
            return np.zeros(0, np.float32)
        from scipy.signal import upfirdn

        used = self._held[: (self._before + count) * self.down + self._reach]
        first = self._before * self.up + self._delay
        made = upfirdn(self._filter, used, self.up, self.down)[first : first + count * self.up]
        self._held = self._held[count * self.down :]
        self._given += len(made)
        return np.asarray(made, np.float32)


def _filter(down: int, up: int) -> tuple[Samples, int, int]:
    """The filter at ``up`` taps an input, how many inputs it reaches, its delay in outputs."""
    lower = min(down, up) * ROLLOFF
    reach = int(np.ceil(CROSSINGS * down / lower))
    taps = _sinc(down, up, lower, np.arange(-reach * up, reach * up + 1))
    # upfirdn gives every ``down``-th sum: the delay must be a whole number of outputs.
    delay = -(-reach * up // down)
    front = delay * down - reach * up
    return np.pad(taps, (front, 0)), reach, delay


def _sinc(down: int, up: int, lower: float, steps: NDArray[np.int64]) -> Samples:
    """The windowed sinc, so many steps of 1 / (down * up) from its middle."""
    # In float32 and in torchaudio's order, an output's place minus an input's: at 44.1 kHz its
    # rounding is 6e-5 of full scale, and part of what pyannote hears.
    output = steps * pow(down, -1, up) % up
    source = (output * down - steps) // up
    at = (-output).astype(np.float32) / np.float32(up) + source.astype(np.float32) / np.float32(
        down
    )
    at = np.clip(at * np.float32(lower), -CROSSINGS, CROSSINGS)
    window = np.cos(at * np.float32(np.pi) / CROSSINGS / 2) ** 2
    at *= np.float32(np.pi)
    with np.errstate(invalid="ignore"):
        sinc = np.where(at == 0, np.float32(1), np.sin(at) / at)
    return np.asarray(sinc * window * np.float32(lower / down), np.float32)
