"""ERes2Net as its authors wrote it: WeSpeaker's form of it, and 3D-Speaker's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.families import campplus
from samevoice.converters.families.eres2net import OWN
from samevoice.converters.families.wespeaker import FBANK
from samevoice.converters.reference import import_pyannote, sample, seeded_torch
from samevoice.models.networks.eres2net import FEWEST
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

SIZES = {"layers": [3, 4, 6, 3], "expansion": 2, "base_width": 32, "scale": 2, "m_channels": 32}
AUG = {"expansion": 4, "base_width": 24, "scale": 3}
WIDTHS = {"ERes2Net34_Large": 64, "ERes2Net34_aug": 64}
SMALL_WIDTHS = {"ERes2Net34_Large": 34}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32, called as pyannote calls what takes no masks."""
    import_pyannote()  # before torchaudio, whose filterbank is heard
    module: torch.nn.Module = _wrapped_class(config["architecture"] == OWN)(config)
    return module.eval()


def _arguments(config: Mapping[str, Any], own: bool) -> dict[str, Any]:
    """What the authors' classes call the hyper-parameters; 3D-Speaker's has fewer of them."""
    given = {
        "m_channels": config["m_channels"],
        "num_blocks": config["layers"],
        "feat_dim": config["num_mel_bins"],
        "pooling_func": "ASTP" if config["pool_hidden"] else "TSTP",
        "two_emb_layer": config["two_emb_layer"],
    }
    if own:
        return {**given, "embedding_size": config["embed_dim"]}
    more = {name: config[name] for name in ("embed_dim", "expansion", "scale")}
    return {**given, **more, "baseWidth": config["base_width"]}


@cache
def _wrapped_class(own: bool) -> Any:
    package = (
        authors.load(authors.SPEAKERLAB, "speakerlab.models.eres2net.ERes2Net")
        if own
        else authors.load(authors.WESPEAKER, "wespeaker.models.eres2net", ("wespeaker",))
    )

    kind: Any = package.ERes2Net

    class ERes2Net(authors.HearsFbank, kind):  # type: ignore[misc]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T)."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(**_arguments(config, own))
            if hidden := config["pool_hidden"]:
                pool: Any = package.pooling_layers.ASTP
                self.pool = pool(self.seg_1.in_features // 2, hidden, config["pool_context"])
            self.config = dict(config)

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            features = self.features(waveforms)
            return authors.cut(super().forward, features, weights, FEWEST)

    return ERes2Net


def seeded(architecture: str, small: bool, **more: Any) -> torch.nn.Module:
    """Random weights, the norms' statistics those of the recording that pyannote.audio ships."""
    own = architecture == OWN
    config = {**(campplus.FBANK if own else FBANK), **SIZES, "architecture": architecture}
    config |= {"num_mel_bins": 80, "embed_dim": 192, "two_emb_layer": False, "pool_hidden": 0}
    config |= AUG if architecture == "ERes2Net34_aug" else {}
    config["m_channels"] = WIDTHS.get(architecture, 32)
    if small:
        config |= {"layers": [1, 2, 2, 1], "num_mel_bins": 16, "embed_dim": 24}
        config["m_channels"] = SMALL_WIDTHS.get(architecture, 8)
    config |= {"pool_context": False, **more}
    with seeded_torch() as torch, torch.no_grad():
        module: Any = build(config)
        seeding.leave_defaults(module)
        pieces = torch.from_numpy(sample()).reshape(10, 1, -1)[:, :, :32000]
        seeding.calibrated(module, lambda: module(pieces))
        # Some values pass the ceiling of the authors' ReLU: nobody could tell it from another.
        for name, value in module.named_parameters():
            if name.startswith("layer") and name.endswith(".bn1.bias"):
                value[0] = 20
    return module  # type: ignore[no-any-return]


def reference(folder: Path, small: bool, architecture: str) -> None:
    seeding.save_state(seeded(architecture, small), folder)
