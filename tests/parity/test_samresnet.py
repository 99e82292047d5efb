"""SimAM-ResNets in MLX against suplime's class and WeSpeaker's own, with seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samevoice
from samevoice.converters import restore
from samevoice.converters.reading import sources
from samevoice.converters.reading.checkpoint import read
from samevoice.errors import SourceError
from samevoice.models import backend, fast, registry
from samevoice.parity.gallery import Spoiler

pytestmark = pytest.mark.long

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")

SUPLIME, WESPEAKER = "WeSpeakerSimAMResNet34", "SimAM_ResNet34_ASP"


@pytest.fixture(scope="module")
def bundles(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both layouts, small, converted."""
    del pyannote
    made = {}
    for name in (SUPLIME, WESPEAKER):
        made[name] = tmp_path_factory.mktemp("simam") / name
        try:
            samevoice.convert(f"reference:{name}/small", made[name])
        except SourceError as error:
            pytest.skip(str(error))
    return made


@pytest.mark.parametrize("name", [SUPLIME, WESPEAKER])
def test_every_layer_is_heard_and_is_right(pyannote: Any, name: str) -> None:
    del pyannote
    spoiler = Spoiler(f"reference:{name}/small")
    verdict = spoiler.verdict()
    assert verdict.passed, verdict.reasons
    gates = {tap.name for tap in verdict.taps if tap.name.endswith(".gate")}
    assert len(gates) == 16
    assert all(tap.noise_ratio < 2 for tap in verdict.taps if tap.output)
    if name == SUPLIME:
        return
    # A bug of SimAM is found in it.
    case = next(case for case in spoiler.cases() if "the mean over time alone" in case.name)
    found = spoiler.spoilt(case, prove=True)
    assert found.right
    assert found.where.endswith(".gate")
    assert found.named


@pytest.mark.parametrize("name", [SUPLIME, WESPEAKER])
def test_it_comes_back_bit_for_bit(bundles: dict[str, Path], name: str, tmp_path: Path) -> None:
    restore.to_torch(bundles[name], tmp_path / "back.pt")
    source = sources.locate(f"reference:{name}/small")
    theirs = read(source.root, source.files).tensors
    back = read(tmp_path, ("back.pt",)).tensors
    assert back.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert np.array_equal(back[key].load(), tensor.load(), equal_nan=True), key


def test_the_training_head_is_dropped_and_other_depths_are_refused(
    pyannote: Any, tmp_path: Path
) -> None:
    del pyannote
    import torch

    source = sources.locate(f"reference:{WESPEAKER}/small")
    loaded = torch.load(source.root / source.files[0], weights_only=True)
    state = dict(loaded["state_dict"])
    torch.save({**state, "projection.weight": torch.zeros(9, 24)}, tmp_path / "avg_model.pt")
    samevoice.convert(tmp_path / "avg_model.pt", tmp_path / "bundle")
    fewer = {name: x for name, x in state.items() if not name.startswith("front.layer4.2.")}
    torch.save(fewer, tmp_path / "fewer.pt")
    with pytest.raises(samevoice.SamevoiceError, match=r"\[3, 4, 6, 2\] blocks is not supported"):
        samevoice.convert(tmp_path / "fewer.pt", tmp_path / "refused")


def test_both_forms_and_masks(bundles: dict[str, Path]) -> None:
    network: Any = registry.load(bundles[SUPLIME])
    x = mx.array(0.1 * np.random.default_rng(0).standard_normal((2, 24000)).astype(np.float32))
    with backend.using(mx.Device(mx.cpu)):
        whole = np.array(network.frames(x))
        assert network.resnet.front._host.made is not None
        with fast.layer_by_layer():
            plain = np.array(network.frames(x))
        np.testing.assert_allclose(whole, plain, atol=1e-5 * np.abs(plain).max())
        assert network.num_frames(24000) == whole.shape[2]
        full = np.array(network(x, mx.ones((2, 1, 59))))[:, 0]
        np.testing.assert_allclose(full, np.array(network(x)), atol=1e-4)
        # Nobody speaks: means of nothing, and the least deviation.
        empty = np.array(network(x, mx.zeros((2, 1, 59))))[:, 0]
    half = network.resnet.bottleneck.weight.shape[1] // 2
    deviations = np.array(network.resnet.bottleneck.weight)[:, half:].sum(axis=1) * 1e-5**0.5
    want = np.array(network.resnet.bottleneck.bias) + deviations
    np.testing.assert_allclose(empty, [want] * 2, rtol=1e-3, atol=1e-5)
