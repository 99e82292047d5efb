"""CAM++ as its authors wrote it, called as pyannote calls its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.families.campplus import FBANK
from samevoice.converters.reference import SEED, import_pyannote, seeded_torch
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

SIZES = {
    "num_mel_bins": 80,
    "embedding_size": 192,
    "growth_rate": 32,
    "bn_size": 4,
    "init_channels": 128,
}


def _package() -> Any:
    """The module with the authors' class."""
    return authors.load(authors.SPEAKERLAB, "speakerlab.models.campplus.DTDNN")


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32, called as pyannote's embeddings are."""
    module: torch.nn.Module = _wrapped_class()(config)
    return module.eval()


def _pool_class() -> Any:
    from pyannote.audio.models.blocks.pooling import StatsPool

    weighted = StatsPool()

    class Pool(_package().StatsPool):  # type: ignore[misc]
        """The authors' pooling, or pyannote's where there are weights: (B, C, T) -> (B, S, 2C)."""

        takes_channels_first = True

        def forward(self, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            plain = weights is None
            pooled: torch.Tensor = super().forward(x)[:, None] if plain else weighted(x, weights)
            return pooled

    return Pool


@cache
def _wrapped_class() -> Any:
    import_pyannote()
    import torch

    package, pool = _package(), _pool_class()

    class CAMPPlus(authors.HearsVoices, package.CAMPPlus):  # type: ignore[misc, name-defined]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T).

        Its modules are the authors' own, by the authors' names; the pooling takes weights too.
        """

        def __init__(self, config: Mapping[str, Any]) -> None:
            sizes = {name: config[name] for name in SIZES}
            super().__init__(sizes.pop("num_mel_bins"), **sizes, memory_efficient=False)
            self.config = dict(config)
            self.xvector.stats = pool()

        def embedded(self, features: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
            x = self.head(features.permute(0, 2, 1))
            *layers, stats, dense = self.xvector
            for layer in layers:
                x = layer(x)
            # A convolution of one tap: speakers may stand where time does. Stacked anew, because
            # torch rounds otherwise where one speaker's numbers only seem to be turned.
            pooled = torch.stack(stats(x, weights).unbind(1), dim=-1)
            vectors: torch.Tensor = dense(pooled).permute(0, 2, 1)
            return vectors[:, 0] if weights is None else vectors

    return CAMPPlus


def seeded(seed: int = SEED, **sizes: int) -> torch.nn.Module:
    """Random weights, and the norms' statistics of some sounds."""
    with seeded_torch(seed):
        module = build({**FBANK, **SIZES, **sizes})
        seeding.leave_defaults(module)
        seeding.calibrated(module, lambda: module(seeding.sounds()))
    return module


def reference(folder: Path, small: bool) -> None:
    sizes = {"init_channels": 64, "growth_rate": 16, "embedding_size": 64}
    seeding.save_state(seeded(**sizes if small else {}), folder)
