"""WeSpeaker's own ECAPA-TDNN, called as pyannote calls WeSpeaker's networks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.families.wespeaker import FBANK
from samevoice.converters.reference import import_pyannote, seeded_torch
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

# Those of ECAPA_TDNN_GLOB_c1024.
SIZES = {
    "num_mel_bins": 80,
    "channels": [1024],
    "lin_neurons": 192,
    "global_context": True,
    "emb_bn": False,
}
SMALL = {"num_mel_bins": 24, "channels": [16], "lin_neurons": 12, "emb_bn": True}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32."""
    module: torch.nn.Module = _wrapped_class()(config)
    return module.eval()


@cache
def _wrapped_class() -> Any:
    import_pyannote()
    import torch

    package = authors.load(authors.WESPEAKER, "wespeaker.models.ecapa_tdnn", ("wespeaker",))

    class WeSpeakerECAPA(authors.HearsFbank, package.ECAPA_TDNN):  # type: ignore[misc, name-defined]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T).

        pyannote leaves the frames where the weights are above a half.
        """

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(
                config["channels"][0],
                config["num_mel_bins"],
                config["lin_neurons"],
                global_context_att=config["global_context"],
                emb_bn=config["emb_bn"],
            )
            self.config = dict(config)

        def embedded(self, features: torch.Tensor) -> torch.Tensor:
            """(B, T, M) -> (B, E)."""
            _, vectors = super().forward(features)
            return torch.as_tensor(vectors)

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            features = self.features(waveforms)
            fewest = 2 if self.config["global_context"] else 1
            return authors.cut(self.embedded, features, weights, fewest)

    return WeSpeakerECAPA


def seeded(**sizes: Any) -> torch.nn.Module:
    """Random weights, and the norms' statistics of some sounds."""
    with seeded_torch():
        module = build({**FBANK, **SIZES, **sizes})
        seeding.leave_defaults(module)
        seeding.calibrated(module, lambda: module(seeding.sounds()))
    return module


def reference(folder: Path, small: bool) -> None:
    seeding.save_state(seeded(**SMALL if small else {}), folder)
