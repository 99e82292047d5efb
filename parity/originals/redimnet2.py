"""ReDimNet2 as WeSpeaker writes it, called as pyannote calls what takes no masks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.converters.families import redimnet2 as family
from samevoice.converters.families.redimnet2 import CUSTOM
from samevoice.converters.reference import import_pyannote, sample, seeded_torch
from samevoice.converters.rules import Tensor
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

SMALL = 24  # mel bins, as few as all strides of frequency allow


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32."""
    import_pyannote()  # before torchaudio, whose filterbank is heard
    with redirect_stdout(None):  # it prints how many channels it has
        module: torch.nn.Module = _wrapped_class()(config)
    return module.eval()


def _package() -> Any:
    # Their own front asks for more packages, and is never called.
    hollow = ("wespeaker", "wespeaker.frontend")
    return authors.load(authors.WESPEAKER, "wespeaker.models.redimnet2", hollow)


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """As the authors' class calls the hyper-parameters."""
    stages, before, channels = [], 1, config["C"]
    for stage in config["stages"]:
        down, across = stage["stride"]
        channels *= down
        reduced = (
            config["C"] * config["num_mel_bins"] // stage["hidden"] if stage["hidden"] else None
        )
        more = stage["width"] / channels
        stages.append([[down, across // before], stage["blocks"], more, [[3, 3]], reduced])
        before = across
    first = config["stages"][0]
    return {
        "F": config["num_mel_bins"],
        "C": config["C"],
        "embed_dim": config["embed_dim"],
        "out_channels": config["out_channels"] or None,
        "return_2d_output": config["return_2d"],
        "stages_setup": stages,
        "compress_tconvs": first["groups"] > 1,
        "group_divisor": first["width"] // first["block_groups"],
        "global_context_att": config["pool_context"],
        "emb_bn": config["emb_bn"],
    }


@cache
def _wrapped_class() -> Any:
    package = _package()
    kind: Any = package.ReDimNet2Wrap
    in_order = (package.LayerNorm, package.TransformerEncoderLayer, package.to2d)
    made_1d = (package.weigth1d, package.to1d, package.ReDimNet2)

    class ReDimNet2(authors.HearsFbank, kind):  # type: ignore[misc]
        """The authors' network for waveforms (B, 1, N) and weights (B, T) or (B, S, T)."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(**_arguments(config))
            self.config = dict(config)
            for one in self.modules():
                if isinstance(one, in_order):
                    one.takes_channels_first = True
                if isinstance(one, (*in_order, *made_1d)):
                    one.gives_channels_first = True
                if isinstance(one, package.FeedForward):  # one each: all share one
                    one.intermediate_act_fn = package.NewGELUActivation()

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            features = self.features(waveforms)
            run, fewest = super().forward, max(2, self.backbone.time_stride)
            return authors.cut(lambda x: run(x.transpose(1, 2)), features, weights, fewest)

    return ReDimNet2


def seeded(architecture: str, small: bool) -> torch.nn.Module:
    """Random weights, the norms' statistics those of the recording that pyannote.audio ships."""
    with seeded_torch() as torch, torch.no_grad():
        module: Any = build(_config(architecture, small))
        seeding.leave_defaults(module)
        for name, value in module.named_parameters():
            if name.endswith(".w"):  # zeros, as a fresh module has them
                value.copy_(torch.randn_like(value))
        pieces = torch.from_numpy(sample()).reshape(10, 1, -1)[:, :, :32000]
        seeding.calibrated(module, lambda: module(pieces))
    return module  # type: ignore[no-any-return]


def _config(architecture: str, small: bool) -> dict[str, Any]:
    """Of what the authors' own factory makes; small: of fewer mel bins, stages and blocks."""
    import torch

    import_pyannote()
    own = {"C": 36} if architecture == CUSTOM else {}
    bins = {"F": SMALL} if small else {}
    factory: Any = getattr(_package(), architecture if not own else "ReDimNet2B0")
    with redirect_stdout(None), torch.device("meta"):
        state = factory(**own, **bins).state_dict()
    shapes = {k: Tensor(tuple(x.shape), "float32", lambda: np.zeros(0)) for k, x in state.items()}
    found = family.config(shapes, {})
    if small:  # which halve frequencies and frames once each
        found["stages"] = [{**stage, "blocks": 2} for stage in found["stages"][:3]]
    return found


def reference(folder: Path, small: bool, architecture: str) -> None:
    seeding.save_state(seeded(architecture, small), folder)
