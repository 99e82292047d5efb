"""Silero VAD hears a recording in pieces as it hears it whole, and forgets nothing between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_silero
import mlx.core as mx
import numpy as np
import pytest

import samevoice
from samevoice.errors import DiarizationError
from samevoice.models import backend, fast, registry
from samevoice.models.diarization.detection import DetectionPipeline
from samevoice.models.networks.silero import SileroVAD

NOISE = np.random.default_rng(1).standard_normal(50_000).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silero")
    samevoice.convert(made_silero.checkpoint(folder / "source.safetensors"), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def network(bundle: Path) -> Any:
    return registry.load(bundle)


def whole(network: Any, samples: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.array(network(samples[None]))[0]
    return found


def in_pieces(network: Any, samples: np.ndarray, *ends: int) -> np.ndarray:
    stream = network.stream()
    return np.concatenate([*(stream(one) for one in np.split(samples, ends)), stream.end()])


def test_in_pieces_as_in_one(network: SileroVAD) -> None:
    want = whole(network, NOISE)
    assert want.shape == (98, 1)  # 97 windows of 512, and one that silence fills up
    assert np.ptp(want) > 0.03
    for ends in ((), (1, 513, 514, 9000), tuple(range(0, 50_000, 160))):
        np.testing.assert_allclose(in_pieces(network, NOISE, *ends), want, atol=2e-6)
    padded = np.pad(NOISE, (0, 98 * 512 - len(NOISE)))
    # A BLAS may round a product of 98 rows otherwise than one of 97.
    np.testing.assert_allclose(in_pieces(network, padded), in_pieces(network, NOISE), atol=2e-7)


def test_a_long_piece_is_heard_in_several(
    network: SileroVAD, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = in_pieces(network, NOISE)
    monkeypatch.setattr("samevoice.models.networks.silero.TOGETHER", 10)
    np.testing.assert_allclose(in_pieces(network, NOISE), want, atol=2e-6)


def test_what_came_before_counts(network: SileroVAD) -> None:
    """Both the state and the 64 samples in front of a window."""
    at = 40 * 512
    after = whole(network, NOISE[at:])[:2, 0]
    assert np.abs(after - whole(network, NOISE)[40:42, 0]).min() > 1e-3
    stream = network.stream()
    stream(np.zeros(512))
    stream.state = tuple(np.zeros_like(one) for one in stream.state)
    stream.rest[:] = NOISE[at - 64 : at]
    assert abs(stream(NOISE[at : at + 512])[0, 0] - after[0]) > 1e-4


def test_nothing_is_kept_but_state_and_context(network: SileroVAD) -> None:
    stream = network.stream()
    stream(NOISE)
    assert len(stream.rest) < 64 + 512
    assert [one.shape for one in stream.state] == [(1, 1, 128)] * 2
    assert stream(NOISE[:0]).shape == (0, 1)


def test_each_of_a_batch_alone_and_the_shortest(network: SileroVAD) -> None:
    both = np.array(network(mx.array(np.stack([NOISE, -NOISE])[:, None])))
    np.testing.assert_allclose(both[0], whole(network, NOISE), atol=1e-6)
    assert whole(network, NOISE[:1]).shape == (network.num_frames(1), 1) == (1, 1)
    with pytest.raises(ValueError, match="no samples"):
        network(np.zeros((1, 0), np.float32))
    with pytest.raises(ValueError, match=r"\(B, 1, N\) or \(B, N\) wanted"):
        network(np.zeros((1, 2, 600), np.float32))


@pytest.mark.skipif(not backend.on_cpu(), reason="MLX runs on a GPU here")
def test_the_plain_form_gives_the_same(network: SileroVAD) -> None:
    assert network._on_cpu() is not None
    with fast.plain_forms():
        plain = whole(network, NOISE)
    np.testing.assert_allclose(whole(network, NOISE), plain, atol=2e-6)


def test_other_weights_make_another_form(bundle: Path) -> None:
    network: Any = registry.load(bundle)
    before = whole(network, NOISE), in_pieces(network, NOISE)
    network.conv1.weight = 2 * network.conv1.weight
    network.lstm.Wh = 2 * network.lstm.Wh
    after = whole(network, NOISE), in_pieces(network, NOISE)
    for one, other in zip(before, after, strict=True):
        assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(*after, atol=2e-6)


# --- its regions ----------------------------------------------------------------------------------


def recording(samples: np.ndarray) -> dict[str, Any]:
    return {"waveform": samples[None], "sample_rate": 16000, "uri": "noise"}


def test_a_recording_is_heard_as_a_whole(bundle: Path, network: SileroVAD) -> None:
    long = np.concatenate([NOISE, np.zeros(200_000, np.float32), -NOISE])
    found = DetectionPipeline(bundle, scores=True)(recording(long))
    want = whole(network, long)[:, 0]
    assert found.scores is not None
    np.testing.assert_allclose(found.scores, want, atol=2e-6)
    assert (found.first, found.step) == (256 / 16000, 512 / 16000)
    assert found.duration == len(long) / 16000


def test_its_own_thresholds_hold_unless_others_are_asked_for(bundle: Path) -> None:
    pipeline = DetectionPipeline(bundle)
    assert (pipeline.thresholds, pipeline.durations) == ((0.5, 0.35), (0.25, 0.1))
    assert DetectionPipeline(bundle, onset=0.6, offset=0.2).thresholds == (0.6, 0.2)


@pytest.mark.parametrize(
    "options", [{"step": 1.0}, {"chunk_duration": 5.0}, {"batch_size": 4}], ids=str
)
def test_it_has_no_chunks(options: dict[str, Any], bundle: Path) -> None:
    with pytest.raises(DiarizationError, match="hears a recording as a whole"):
        DetectionPipeline(bundle, **options)


def test_it_tells_no_overlap(bundle: Path) -> None:
    with pytest.raises(DiarizationError, match="one speaker at a time, and so no overlap"):
        DetectionPipeline(bundle, task="overlap")
