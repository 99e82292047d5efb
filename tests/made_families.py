"""What every family's tests begin with: a seeded port that is right, and its way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import samevoice
from samevoice.converters import restore
from samevoice.converters.reading import sources
from samevoice.converters.reading.checkpoint import read
from samevoice.converters.reading.wheels import WheelFile
from samevoice.errors import SourceError
from samevoice.parity.gallery import Spoiler


def spoiler_of(source: str, wheel: WheelFile) -> Spoiler:
    """The port of seeded weights, which is right: a spoiler says so before it spoils."""
    try:
        wheel.fetch()
    except SourceError as error:
        pytest.skip(str(error))
    return Spoiler(source)


def comes_back(source: str, folder: Path) -> None:
    """Converted and exported, every tensor is the source's, bit for bit."""
    samevoice.convert(source, folder / "bundle")
    restore.to_torch(folder / "bundle", folder / "back.pt")
    found = sources.locate(source)
    theirs = read(found.root, found.files).tensors
    back = read(folder, ("back.pt",)).tensors
    assert back.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert np.array_equal(back[key].load(), tensor.load()), key


def cuts_voices_out(network: Any) -> None:
    """Each voice is what the whole network says of the frames under its mask."""
    x = mx.array(0.1 * np.random.default_rng(0).standard_normal((1, 24000)).astype(np.float32))
    features = network.frames(x)
    masks = np.zeros((1, 3, features.shape[1]), np.float32)
    masks[0, 0, 20:80], masks[0, 1] = 1, 1
    got = np.array(network(x, mx.array(masks)))
    for voice, part in ((0, features[:, 20:80]), (1, features)):
        np.testing.assert_allclose(got[:, voice], np.array(network.whole(part)), atol=1e-5)
    assert not got[0, 2].any()  # who says nothing
