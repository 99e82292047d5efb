"""Sounds as spectra, and back."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models.nn.axes import unfold


def stft(
    x: mx.array,
    size: int,
    hop: int,
    window: mx.array | None = None,
    length: int | None = None,
    normalized: bool = False,
    onesided: bool = True,
) -> mx.array:
    """(..., N) -> (..., frames, size // 2 + 1), complex, not padded."""
    frames = unfold(x, size, hop, x.ndim - 1)
    if window is not None:
        lacking = size - window.shape[0]
        frames = frames * mx.pad(window, (lacking // 2, lacking - lacking // 2))
    elif length is not None:
        ones = mx.pad(
            mx.ones((length,)), ((size - length) // 2, size - length - (size - length) // 2)
        )
        frames = frames * ones
    made = mx.fft.rfft(frames, axis=-1) if onesided else mx.fft.fft(frames, axis=-1)
    return made * size**-0.5 if normalized else made


def istft(
    x: mx.array,
    size: int,
    hop: int,
    window: mx.array,
    center: bool = True,
    length: int | None = None,
    normalized: bool = False,
) -> mx.array:
    """(..., frames, size // 2 + 1) -> (..., N): what overlaps is weighed by the window."""
    lacking = size - window.shape[0]
    whole = mx.pad(window, (lacking // 2, lacking - lacking // 2))
    frames = mx.fft.irfft(x, n=size, axis=-1) * whole
    frames = frames * size**0.5 if normalized else frames
    count = size + hop * (x.shape[-2] - 1)
    places = mx.arange(x.shape[-2])[:, None] * hop + mx.arange(size)
    made = mx.zeros((*x.shape[:-2], count)).at[..., places].add(frames)
    weights = mx.zeros((count,)).at[places].add(mx.broadcast_to(mx.square(whole), places.shape))
    start = size // 2 if center else 0
    end = start + length if length is not None else count - start
    made, weights = made[..., start:end], weights[start:end]
    made = made / weights
    more = (length or 0) - made.shape[-1]
    return mx.pad(made, [(0, 0)] * (made.ndim - 1) + [(0, more)]) if more > 0 else made
