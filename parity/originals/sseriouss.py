"""pyannote.audio's own SSeRiouSS, around a torchaudio bundle that downloads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import import_pyannote, seeded_torch
from samevoice.parity.originals import suplime
from samevoice.parity.originals.pyannet import finished

if TYPE_CHECKING:
    import torch

BUNDLE = "WAVLM_BASE"  # pyannote's default, and in its place the network of a config


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    import_pyannote()
    from pyannote.audio.models.segmentation import SSeRiouSS

    with _bundled(config):
        module = SSeRiouSS(
            wav2vec=BUNDLE,
            wav2vec_layer=config["wav2vec_layer"],
            lstm=dict(config["lstm"]),
            linear=dict(config["linear"]),
            sample_rate=config["sample_rate"],
            num_channels=config["num_channels"],
        )
    return finished(module, config)


@contextmanager
def _bundled(config: Mapping[str, Any]) -> Iterator[None]:
    """pyannote's class takes a WavLM only out of one of torchaudio's bundles, with its weights."""
    import torchaudio
    from torchaudio.pipelines._wav2vec2 import utils

    arguments = suplime.arguments(config["wav2vec"])
    is_wavlm = "encoder_num_buckets" in arguments
    make = torchaudio.models.wavlm_model if is_wavlm else torchaudio.models.wav2vec2_model

    class Bundle:
        _sample_rate, _params = config["sample_rate"], arguments

        @staticmethod
        def get_model() -> Any:
            model = make(**arguments)
            even = config["normalize_waveform"]
            return utils._Wav2Vec2Model(model, True, False, []) if even else model

    before = getattr(torchaudio.pipelines, BUNDLE)
    setattr(torchaudio.pipelines, BUNDLE, Bundle)
    try:
        yield
    finally:
        setattr(torchaudio.pipelines, BUNDLE, before)


def reference(folder: Path, small: bool) -> None:
    """SSeRiouSS on WavLM Base, which has the shape of Base+."""
    config = {
        "wav2vec": suplime.SMALL if small else suplime.BASE_PLUS,
        "wav2vec_layer": -1,
        "normalize_waveform": False,
        "lstm": {
            "hidden_size": 12 if small else 128,
            "num_layers": 2 if small else 4,
            "bidirectional": True,
            "monolithic": True,
        },
    }
    with seeded_torch():
        suplime.write(build({**suplime.common(small), **config}), folder)
