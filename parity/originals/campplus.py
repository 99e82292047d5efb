"""CAM++ as its authors wrote it, from the wheel of ``speakerlab``, with pyannote's way of calling.

The wheel asks for packages that its network never imports, and for an old numpy. So it is not
installed: it is fetched once, checked by its hash, and imported as the file that it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from samevoice.converters.families.campplus import FBANK
from samevoice.converters.reading.wheels import WheelFile
from samevoice.converters.reference import SEED, import_pyannote, sample, seeded_torch
from samevoice.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

WHEEL = WheelFile(
    "speakerlab",
    "0.0.6",
    "speakerlab-0.0.6-py3-none-any.whl",
    "f7c69a8ad7ac803f179572b54cfc76bce2888d699bc25663df741d933c337f2a",
)
SIZES = {
    "num_mel_bins": 80,
    "embedding_size": 192,
    "growth_rate": 32,
    "bn_size": 4,
    "init_channels": 128,
}
# What the filterbank is told besides the sample rate, by the names that it shares with the config.
OPTIONS = (
    *("num_mel_bins", "frame_length", "frame_shift", "round_to_power_of_two"),
    *("snip_edges", "dither", "window_type", "use_energy"),
)


# The package --------------------------------------------------------------------------------------


@cache
def _package() -> Any:
    """The module with the authors' class; only this process sees the wheel, behind all else."""
    try:
        import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch, which runs the original,", "parity") from error
    path = str(WHEEL.fetch())
    if path not in sys.path:
        sys.path.append(path)
    return import_module("speakerlab.models.campplus.DTDNN")


# The network --------------------------------------------------------------------------------------


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32, called as pyannote's embeddings are."""
    module: torch.nn.Module = _wrapped_class()(config)
    return module.eval()


def _pool_class() -> Any:
    from pyannote.audio.models.blocks.pooling import StatsPool

    authors, weighted = _package(), StatsPool()

    class Pool(authors.StatsPool):  # type: ignore[misc, name-defined]
        """The authors' pooling, or pyannote's where there are weights: (B, C, T) -> (B, S, 2C)."""

        takes_channels_first = True

        def forward(self, x: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            plain = weights is None
            pooled: torch.Tensor = super().forward(x)[:, None] if plain else weighted(x, weights)
            return pooled

    return Pool


def _fbank(waveforms: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    """(B, 1, N) -> (B, T, M)."""
    import torch
    from torchaudio.compliance import kaldi

    given = {name: config[name] for name in OPTIONS}
    given["sample_frequency"] = config["sample_rate"]
    scaled = waveforms * config["full_scale"]
    features = torch.stack([kaldi.fbank(one, **given) for one in scaled])
    return features - features.mean(dim=1, keepdim=True)


@cache
def _wrapped_class() -> Any:
    import_pyannote()
    import torch

    authors, pool = _package(), _pool_class()

    class CAMPPlus(authors.CAMPPlus):  # type: ignore[misc, name-defined]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T).

        Its modules are the authors' own, by the authors' names; the pooling takes weights too.
        """

        def __init__(self, config: Mapping[str, Any]) -> None:
            sizes = {name: config[name] for name in SIZES}
            super().__init__(sizes.pop("num_mel_bins"), **sizes, memory_efficient=False)
            self.config = dict(config)
            self.xvector.stats = pool()

        def compute_fbank(self, waveforms: torch.Tensor) -> torch.Tensor:
            return _fbank(waveforms, self.config)

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            several = weights is not None and weights.dim() == 3
            if weights is not None and not several:
                weights = weights[:, None]
            is_fbank = waveforms.shape[-1] == self.config["num_mel_bins"]
            x = waveforms if is_fbank else self.compute_fbank(waveforms)
            x = self.head(x.permute(0, 2, 1))
            *layers, stats, dense = self.xvector
            for layer in layers:
                x = layer(x)
            # A convolution of one tap: speakers may stand where time does. Stacked anew, because
            # torch rounds otherwise where one speaker's numbers only seem to be turned.
            pooled = torch.stack(stats(x, weights).unbind(1), dim=-1)
            vectors: torch.Tensor = dense(pooled).permute(0, 2, 1)
            return vectors if several else vectors[:, 0]

    return CAMPPlus


def seeded(seed: int = SEED, **sizes: int) -> torch.nn.Module:
    """Random weights, the norms' statistics those of the recording that pyannote.audio ships.

    No value is left where a fresh module has it: a port that forgets one must not pass.
    """
    with seeded_torch(seed) as torch, torch.no_grad():
        module = build({**FBANK, **SIZES, **sizes})
        for name, value in module.named_parameters():
            if name.endswith("bias"):
                value.copy_(torch.randn_like(value) * 0.1)
            elif value.dim() == 1:  # a norm's
                value.copy_(torch.rand_like(value) + 0.5)
        for one in module.modules():
            if isinstance(one, torch.nn.modules.batchnorm._BatchNorm):
                one.momentum = None  # a plain mean over all that was seen
        # In pieces, so that the last norm has several embeddings to see.
        module.train()(torch.from_numpy(sample()).reshape(10, 1, -1))
    return module.eval()
