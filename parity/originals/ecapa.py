"""speechbrain's own ECAPA-TDNN and features, called as pyannote calls speechbrain's networks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.families.ecapa import FEATURES, dilations_of
from samevoice.converters.reference import import_pyannote, seeded_torch
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

# Packages whose own ``__init__`` imports all of speechbrain.
HOLLOW = (
    *("speechbrain", "speechbrain.utils", "speechbrain.dataio", "speechbrain.nnet"),
    *("speechbrain.processing", "speechbrain.lobes", "speechbrain.lobes.models"),
)
# Those of spkrec-ecapa-voxceleb.
SIZES = {
    "num_mel_bins": 80,
    "channels": [1024, 1024, 1024, 1024, 3072],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "attention_channels": 128,
    "res2net_scale": 8,
    "se_channels": 128,
    "global_context": True,
    "lin_neurons": 192,
}
# Wide enough that no layer's error hangs on one or two values.
SMALL = {
    "num_mel_bins": 24,
    "channels": [24, 32, 32, 48],
    "kernel_sizes": [5, 3, 3, 1],
    "attention_channels": 32,
    "res2net_scale": 4,
    "se_channels": 64,
    "lin_neurons": 32,
}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32."""
    module: torch.nn.Module = _wrapped_class()(config)
    return module.eval()


@cache
def _features_class() -> Any:
    import torch

    features = authors.load(authors.SPEECHBRAIN, "speechbrain.lobes.features", HOLLOW)
    processing = authors.load(authors.SPEECHBRAIN, "speechbrain.processing.features", HOLLOW)

    class Features(torch.nn.Module):
        """Decibels of mel bands, the mean over time taken off: (B, N) -> (B, T, M).

        speechbrain's modules are made anew each time, in the precision that is asked for.
        """

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__()
            self.options = {name: config[name] for name in FEATURES}
            self.options["n_mels"] = config["num_mel_bins"]

        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            levels = features.Fbank(**self.options)(samples)
            norm = processing.InputNormalization(norm_type="sentence", std_norm=False)
            centred: torch.Tensor = norm(levels)
            return centred

    return Features


@cache
def _wrapped_class() -> Any:
    import_pyannote()

    package = authors.load(authors.SPEECHBRAIN, "speechbrain.lobes.models.ECAPA_TDNN", HOLLOW)

    class SpeechBrainECAPA(package.ECAPA_TDNN):  # type: ignore[misc, name-defined]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T).

        pyannote leaves the samples where the weights are above a half.
        """

        def __init__(self, config: Mapping[str, Any]) -> None:
            sizes = {name: config[name] for name in (*SIZES, "dilations")}
            super().__init__(sizes.pop("num_mel_bins"), **sizes)
            self.mel = _features_class()(config)
            spans = zip(config["kernel_sizes"], config["dilations"], strict=True)
            mirrored = max((kernel - 1) * dilation // 2 for kernel, dilation in spans)
            self.fewest = mirrored * config["hop_length"] * config["sample_rate"] // 1000

        def embedded(self, samples: torch.Tensor) -> torch.Tensor:
            """(B, N) -> (B, E)."""
            vectors: torch.Tensor = super().forward(self.mel(samples))
            return vectors[:, 0]

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            samples = waveforms.reshape(len(waveforms), -1)
            return authors.cut(self.embedded, samples, weights, self.fewest)

    return SpeechBrainECAPA


def seeded(**sizes: Any) -> torch.nn.Module:
    """Random weights, and the norms' statistics of some sounds."""
    given = {**FEATURES, **SIZES, **sizes}
    with seeded_torch():
        module = build({**given, "dilations": dilations_of(len(given["channels"]))})
        seeding.leave_defaults(module)
        seeding.calibrated(module, lambda: module(seeding.sounds()))
    return module


def reference(folder: Path, small: bool) -> None:
    seeding.save_state(seeded(**SMALL if small else {}), folder)
