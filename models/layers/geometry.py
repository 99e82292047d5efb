"""Which samples a frame was computed from: receptive fields of stacked convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """One convolution or pooling along time (none of the networks dilates)."""

    kernel: int
    stride: int = 1
    padding: int = 0


def num_frames(windows: Sequence[Window], samples: int) -> int:
    """How many outputs the stack gives for so many inputs."""
    for kernel, stride, padding in windows:
        samples = 1 + (samples + 2 * padding - kernel) // stride
    return samples


def fewest_samples(windows: Sequence[Window]) -> int:
    """How many inputs the stack needs to give a frame at all."""
    needed = 1
    for kernel, stride, padding in reversed(windows):
        needed = max(1, kernel + (needed - 1) * stride - 2 * padding)
    return needed


def receptive_field_size(windows: Sequence[Window], frames: int = 1) -> int:
    """How many inputs so many outputs were computed from."""
    for kernel, stride, padding in reversed(windows):
        frames = kernel + (frames - 1) * stride - 2 * padding
    return frames


def receptive_field_center(windows: Sequence[Window], frame: int = 0) -> int:
    """The input index in the middle of output ``frame``'s receptive field."""
    for kernel, stride, padding in reversed(windows):
        frame = frame * stride + (kernel - 1) // 2 - padding
    return frame
