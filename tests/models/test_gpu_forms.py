"""Every network in its forms for a GPU, on a GPU that is none: they give what layers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_gpu
import made_up
import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

import samevoice
from samevoice.errors import SamevoiceError
from samevoice.models import backend, fast, nn, registry

SMALL = (
    *("CAMPPlus", "DiariZen", "ERes2Net34_Base", "ReDimNet2B0", "SSeRiouSS", "SileroVAD"),
    *("SpeechBrainECAPA", "SuplimeSegmentation", "VoiceEncoder", "WeSpeakerECAPA"),
    *("WeSpeakerSimAMResNet34", "XVectorMFCC", "XVectorSincNet"),
)


def both(network: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """As a GPU runs it, and plain."""
    x = mx.array(0.1 * np.random.default_rng(0).standard_normal((2, 16_000)).astype(np.float32))
    with made_gpu.made(), monkeypatch.context() as patch:
        assert fast.on_gpu()
        assert fast.whole_on_gpu()
        patch.delattr(mx, "float64")  # which no GPU takes
        found = np.array(network(x))
    with fast.plain_forms():
        return found, np.array(network(x))


@pytest.mark.long
@pytest.mark.parametrize("name", SMALL)
def test_a_network_gives_on_a_gpu_what_its_layers_give(
    name: str, pyannote: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        samevoice.convert(f"reference:{name}/small", tmp_path / "bundle")
    except SamevoiceError as error:  # an original that is not here
        pytest.skip(str(error))
    found, plain = both(registry.load(tmp_path / "bundle"), monkeypatch)
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("kind", ["pyannet", "wespeaker"])
def test_so_do_pyannotes(kind: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mx.random.seed(0)
    config = {"pyannet": make.pyannet_config, "wespeaker": make.wespeaker_config}[kind]()
    found, plain = both(registry.build(config), monkeypatch)
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize(("name", "least"), [("cumsum", -1.0), ("cumprod", 0.9)])
def test_sums_that_a_cpu_makes_in_float64_need_none_on_a_gpu(
    name: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).uniform(least, 1.1, (3, 101)).astype(np.float32)
    wanted = getattr(np, name)(x.astype(np.float64), axis=1)
    with made_gpu.made():
        assert not backend.on_cpu()
        monkeypatch.delattr(mx, "float64")
        found = np.array(getattr(nn, name)(mx.array(x), axis=1))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_weights_in_few_bits_stay_packed_on_a_gpu(tmp_path: Path) -> None:
    save_file(made_up.pyannet_arrays(hidden=64), tmp_path / "source.safetensors")
    samevoice.convert(tmp_path / "source.safetensors", tmp_path / "bundle", q_bits=4)
    x = 0.1 * mx.random.normal((2, 16_000))
    plain = np.array(registry.load(tmp_path / "bundle")(x))
    with made_gpu.made():
        network: Any = registry.load(tmp_path / "bundle")
        assert network.linear[0].weight.dtype == mx.uint32
        found = np.array(network(x))
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())
