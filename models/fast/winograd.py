"""What both of Winograd's forms have in common: four products for two outputs of three taps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samevoice.models.fast.cpu import Floats

# From three taps to four products; its entries are exact in binary.
TO_TILE = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def differences(x: Sequence[Floats], out: Floats) -> None:
    """Four of a patch's lines -> the four that Winograd multiplies."""
    np.subtract(x[0], x[2], out=out[0])
    np.add(x[1], x[2], out=out[1])
    np.subtract(x[2], x[1], out=out[2])
    np.subtract(x[1], x[3], out=out[3])
