"""pyannote.audio's own x-vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import import_pyannote, seeded_torch
from samevoice.parity import seeding

if TYPE_CHECKING:
    import torch

SMALL = 128  # numbers of an embedding; the classes have no other size
# Not the defaults: a port that forgets to read an option must not pass.
SINCNET = {"stride": 10}
MFCC = {"n_mfcc": 30, "melkwargs": {"n_fft": 512, "hop_length": 160, "n_mels": 64}}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    import_pyannote()
    from pyannote.audio.models import embedding

    names = ("sample_rate", "num_channels", "sincnet", "mfcc", "dimension")
    kind = getattr(embedding, config["architecture"])
    module: torch.nn.Module = kind(**{name: config[name] for name in names if name in config})
    return module.eval()


def seeded(architecture: str, **options: Any) -> torch.nn.Module:
    """Random weights, and the norms' statistics of some sounds."""
    with seeded_torch():
        from pyannote.audio.core.task import Problem, Resolution, Specifications

        module: Any = build({"architecture": architecture, **options})
        module.specifications = Specifications(
            problem=Problem.REPRESENTATION,
            resolution=Resolution.CHUNK,
            duration=5.0,
            min_duration=2.5,
        )
        seeding.leave_defaults(module)
        seeding.calibrated(module, lambda: module(seeding.sounds()))
    made: torch.nn.Module = module
    return made


def sincnet_reference(folder: Path, small: bool) -> None:
    module = seeded("XVectorSincNet", sincnet=SINCNET, dimension=SMALL if small else 512)
    seeding.save_pyannote(module, folder)


def mfcc_reference(folder: Path, small: bool) -> None:
    module = seeded("XVectorMFCC", mfcc=MFCC, dimension=SMALL if small else 512)
    seeding.save_pyannote(module, folder)
