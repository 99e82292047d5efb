"""Resemblyzer's voice encoder in MLX against its authors' own class."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import samevoice
from samevoice.errors import SourceError
from samevoice.models import registry
from samevoice.parity import roles, run
from samevoice.parity.inputs import Example, batch, sample
from samevoice.parity.originals import resemblyzer

torch = pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")


@pytest.fixture(scope="module")
def package(pyannote: Any) -> Any:
    del pyannote
    try:
        return resemblyzer.package()
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(package: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del package
    folder = tmp_path_factory.mktemp("resemblyzer")
    samevoice.convert("reference:VoiceEncoder/small", folder / "bundle")
    return folder / "bundle"


def test_it_comes_back_bit_for_bit(bundle: Path, tmp_path: Path) -> None:
    samevoice.to_torch(bundle, tmp_path / "back.bin")
    back = torch.load(tmp_path / "back.bin")["model_state"]
    assert back["similarity_weight"].tolist() == [1.5]
    held = torch.load(next(samevoice_reference().glob("*.bin")))["model_state"]
    assert list(back) == list(held)
    assert all(torch.equal(back[name], value) for name, value in held.items())


def samevoice_reference() -> Path:
    from samevoice.converters.reference import build

    return build("VoiceEncoder/small")


def test_every_layer(bundle: Path) -> None:
    brief = roles.examples(registry.load(bundle), roles.BRIEF)
    long = Example("two parts", batch([sample()[16 * 16_000 :][:32_000]]), depth="full")
    result = run.run(bundle, "reference:VoiceEncoder/small", inputs=[long, *brief])
    assert result.passed, result.verdict.reasons
    names = {tap.name for tap in result.taps}
    assert names >= {"lstm.0", "lstm.1", "lstm.2", "lstm.0.input", "linear", "linear#2", "output"}
    (output,) = [
        t for t in result.taps if (t.name, t.input, t.mode) == ("output", long.name, "free")
    ]
    assert output.noise_ratio < 2


@pytest.fixture
def librosa(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its ``embed_utterance`` takes from librosa, by torch."""
    audio = ModuleType("resemblyzer.audio")

    def spectrogram(samples: np.ndarray) -> np.ndarray:
        one: np.ndarray = resemblyzer.spectrogram(torch.from_numpy(samples)[None], 40)[0].numpy()
        return one

    audio.wav_to_mel_spectrogram = spectrogram  # type: ignore[attr-defined]
    monkeypatch.setattr(package, "audio", audio)


@pytest.mark.usefixtures("librosa")
@pytest.mark.parametrize("samples", [5000, 25_600, 31_519, 31_520, 80_000])
def test_an_utterance_is_embedded_as_its_authors_do(bundle: Path, samples: int) -> None:
    network: Any = registry.load(bundle)
    module: Any = resemblyzer.build(network.config)
    state = torch.load(next(samevoice_reference().glob("*.bin")))["model_state"]
    module.load_state_dict({k: v for k, v in state.items() if "similarity" not in k})
    speech = sample()[16 * 16_000 :][:samples]
    # The wrapper's own forward takes waveforms, the authors' takes spectrograms.
    module.forward = super(type(module), module).forward
    wanted = module.embed_utterance(speech)
    found = np.array(network(mx.array(speech[None])))[0]
    np.testing.assert_allclose(found, wanted, atol=2e-6)
