"""Silero VAD is told by its tensors; each goes over and comes back bit for bit."""

from __future__ import annotations

from pathlib import Path

import made_silero
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import samevoice
from samevoice.converters.families import silero
from samevoice.errors import ConversionError


def test_there_and_back(tmp_path: Path) -> None:
    source = made_silero.checkpoint(tmp_path / "source.safetensors")
    samevoice.convert(source, tmp_path / "bundle")
    samevoice.to_torch(tmp_path / "bundle", tmp_path / "back.safetensors")
    there, back = load_file(source), load_file(tmp_path / "back.safetensors")
    assert {name: x.tobytes() for name, x in back.items()} == {
        name: x.tobytes() for name, x in there.items()
    }
    config = samevoice.inspect(tmp_path / "bundle").config
    assert config["architecture"] == "SileroVAD"
    assert (config["window"], config["context"], config["channels"]) == (
        512,
        64,
        [128, 64, 64, 128],
    )
    assert config["detection"] == silero.DETECTION


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("stft_conv.weight", (130, 1, 128), "filters of 128 samples: the Silero VAD for 16 kHz"),
        ("conv2.weight", (64, 128, 5), "'conv2.weight' .*64, 128, 5.* becomes"),
    ],
)
def test_another_shape_is_one_line(
    name: str, shape: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    tensors = {**made_silero.tensors(), name: np.zeros(shape, np.float32)}
    save_file(tensors, tmp_path / "source.safetensors")
    with pytest.raises(ConversionError, match=said) as caught:
        samevoice.convert(tmp_path / "source.safetensors", tmp_path / "bundle")
    assert "\n" not in str(caught.value)
