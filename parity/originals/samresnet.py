"""SimAM-ResNets as their authors wrote them: suplime's for pyannote.audio, and WeSpeaker's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.families.samresnet import SUPLIME
from samevoice.converters.families.wespeaker import FBANK
from samevoice.converters.reference import import_pyannote, sample, seeded_torch
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32, called as pyannote's embeddings are."""
    import_pyannote()
    made = _suplime(config) if config["architecture"] == SUPLIME else _wrapped_class()(config)
    made.resnet.pooling.gives_channels_first = False
    module: torch.nn.Module = made.eval()
    return module


def _suplime(config: Mapping[str, Any]) -> Any:
    models = authors.load(authors.SUPLIME, "suplime.models.embedding", ("suplime",))
    kind = models.WeSpeakerSimAMResNet34
    module = kind(**{name: config[name] for name in signature(kind).parameters if name in config})
    sizes = (config["num_mel_bins"], config["embed_dim"], config["in_planes"])
    if sizes[1:] != (256, 64):  # as no checkpoint has them
        trunks = authors.load(authors.SUPLIME, "suplime.models.samresnet", ("suplime",))
        module.resnet = trunks.SimAMResNet34(*sizes)
    return module


def _wespeaker(name: str) -> Any:
    return authors.load(authors.WESPEAKER, f"wespeaker.models.{name}", ("wespeaker",))


@cache
def _pool_class() -> Any:
    import torch

    class Pool(_wespeaker("pooling_layers").ASP):  # type: ignore[misc]
        """The authors' pooling; weights multiply its own, as in suplime's form of it."""

        def forward(self, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            if weights is None:
                plain: torch.Tensor = super().forward(x)
                return plain
            x = x.reshape(x.size(0), -1, x.size(-1))
            own = self.attention(x)
            masks = torch.nn.functional.interpolate(weights, size=x.size(-1), mode="nearest")
            return torch.stack([self._stats(x, own * one[:, None]) for one in masks.unbind(1)], 1)

        def _stats(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            weights = weights / (weights.sum(dim=2, keepdim=True) + 1e-8)
            mean = (x * weights).sum(dim=2)
            var = (x**2 * weights).sum(dim=2) - mean**2
            return torch.cat([mean, var.clamp(min=1e-5).sqrt()], dim=1)

    return Pool


@cache
def _wrapped_class() -> Any:
    import torch

    class SimAMResNet(authors.HearsVoices, torch.nn.Module):
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T)."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__()
            self.config = dict(config)
            channels, mels = config["in_planes"], config["num_mel_bins"]
            kind = getattr(_wespeaker("samresnet"), config["architecture"])
            self.resnet = kind(channels, config["embed_dim"], mels)
            self.resnet.pooling = _pool_class()(channels, mels, hidden_dim=config["hidden"])

        def embedded(self, features: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
            frames = self.resnet.front(features.transpose(1, 2)[:, None])
            vectors: torch.Tensor = self.resnet.bottleneck(self.resnet.pooling(frames, weights))
            return vectors

    return SimAMResNet


def seeded(architecture: str, small: bool) -> torch.nn.Module:
    """Random weights, the norms' statistics those of the recording that pyannote.audio ships."""
    sizes = {"num_mel_bins": 80, "in_planes": 64, "hidden": 128, "embed_dim": 256}
    if small:
        sizes = {"num_mel_bins": 16, "in_planes": 8, "hidden": 128, "embed_dim": 24}
    with seeded_torch() as torch:
        module = build({**FBANK, **sizes, "architecture": architecture})
        seeding.leave_defaults(module)
        pieces = torch.from_numpy(sample()).reshape(10, 1, -1)[:, :, :32000]
        seeding.calibrated(module, lambda: module(pieces))
    return module


def reference(folder: Path, small: bool, architecture: str) -> None:
    module: Any = seeded(architecture, small)
    if architecture != SUPLIME:
        seeding.save_state(module.resnet, folder)
        return
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    module.specifications = Specifications(
        problem=Problem.REPRESENTATION,
        resolution=Resolution.CHUNK,
        duration=5.0,
        min_duration=2.5,
    )
    seeding.save_pyannote(module, folder)
