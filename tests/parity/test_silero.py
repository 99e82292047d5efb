"""Silero VAD in MLX against the TorchScript file of its makers' package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_silero
import numpy as np
import pytest

import samevoice
from samevoice.converters import rules
from samevoice.converters.families import silero as family
from samevoice.converters.rules import Tensor
from samevoice.errors import SourceError
from samevoice.models.diarization.detection import DetectionPipeline
from samevoice.models.layers import named_arrays
from samevoice.parity import authors
from samevoice.parity.inputs import noise, sample
from samevoice.parity.judge import Verdict
from samevoice.parity.originals import silero

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
mx = pytest.importorskip("mlx.core")
networks = pytest.importorskip("samevoice.models.networks.silero")

NAMES = {"lstm_cell": "lstm"}


@pytest.fixture(scope="module")
def script(pyannote: Any) -> Any:
    del pyannote
    try:
        return silero.script()
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def original(script: Any) -> Any:
    """With the weights of the script itself."""
    config = family.config({n: Tensor.of(x) for n, x in made_silero.tensors().items()}, {})
    module = silero.build(config)
    held = script.state_dict()
    module.load_state_dict({b: held[f"_model.{a}"] for a, b in silero.NAMES.items()})
    return module


@pytest.fixture(scope="module")
def network(original: Any) -> Any:
    tensors = {name: Tensor.of(x.numpy()) for name, x in original.state_dict().items()}
    config = family.config(tensors, {})
    made = networks.SileroVAD(config)
    shapes = {name: tuple(x.shape) for name, x in named_arrays(made).items()}
    laid = rules.plan(family.table(config), tensors, shapes)
    made.load_weights([(n, mx.array(np.array(x))) for n, x in rules.convert(laid)], strict=True)
    return made.eval()


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    """(2, 1, 20000): speech, and noise."""
    return np.stack([sample()[16 * 16000 :][:20_000], noise(20_000)])[:, None]


def compared(original: Any, network: Any, sounds: np.ndarray) -> Verdict:
    verdict: Verdict = samevoice.parity.compare(original, network, sounds, NAMES)
    return verdict


def test_the_layers_are_the_script(original: Any, sounds: np.ndarray) -> None:
    """What gives the taps gives what the file itself gives."""
    with torch.inference_mode():
        x = torch.from_numpy(sounds)
        whole, layers = original(x), silero.layers(original, x.flatten(1))
        double = original.double()(x.double())
    original.float()
    assert torch.equal(whole, silero.whole(original, x.flatten(1)))
    assert float((whole - double).abs().max()) < 5e-6
    assert float((layers - double).abs().max()) < 5e-6
    assert float(np.ptp(whole.numpy())) > 0.5


def test_every_layer(original: Any, network: Any, sounds: np.ndarray) -> None:
    verdict = compared(original, network, sounds)
    assert verdict.passed, verdict.reasons
    assert {tap.name for tap in verdict.taps} >= {"stft_conv", "conv4", "lstm", "final_conv"}
    (output,) = [tap for tap in verdict.taps if tap.name == "output"]
    assert output.noise_ratio < 2


def test_without_the_samples_before_a_window(
    original: Any, network: Any, sounds: np.ndarray
) -> None:
    class Deaf(type(network)):  # type: ignore[misc]
        def encoded(self, windows: Any) -> Any:
            return super().encoded(mx.concatenate([windows[:, :64] * 0, windows[:, 64:]], axis=1))

    before, network.__class__ = type(network), Deaf
    try:
        verdict = compared(original, network, sounds)
    finally:
        network.__class__ = before
    assert verdict.first_divergence == "stft_conv"


def test_a_recordings_regions_are_its_makers(original: Any, script: Any, tmp_path: Path) -> None:
    """Probabilities window by window, and the regions where they are asked for by thresholds.

    Theirs begin and end where a window begins, ours in its middle; theirs end with the audio.
    """
    vad = authors.load(authors.SILERO, "silero_vad.utils_vad", hollow=("silero_vad",))
    silero.whole(original, torch.zeros(1, 512))  # its own weights are in the script
    probabilities = []

    def run(window: Any, rate: int) -> Any:
        probabilities.append(script(window, rate))
        return probabilities[-1]

    run.reset_states = script.reset_states  # type: ignore[attr-defined]
    durations = {"min_speech_duration_ms": 0, "min_silence_duration_ms": 0, "speech_pad_ms": 0}
    theirs = vad.get_speech_timestamps(torch.from_numpy(sample()), run, **durations)
    save_file(original.state_dict(), tmp_path / "source.safetensors")
    samevoice.convert(tmp_path / "source.safetensors", tmp_path / "bundle")
    pipeline = DetectionPipeline(
        tmp_path / "bundle", "cpu", scores=True, min_duration_on=0.0, min_duration_off=0.0
    )
    found = pipeline({"waveform": sample()[None], "sample_rate": 16000})
    assert found.scores is not None
    assert len(found.scores) == len(probabilities) == 938
    np.testing.assert_allclose(found.scores, torch.cat(probabilities)[:, 0], atol=1e-5)
    ours = [
        (round(one["start"] * 16000) - 256, round(one["end"] * 16000) - 256)
        for one in found.as_dict()["regions"]
    ]
    assert len(ours) == len(theirs) > 3
    assert [one["start"] for one in theirs] == [start for start, _ in ours]
    assert [one["end"] for one in theirs[:-1]] == [end for _, end in ours[:-1]]
