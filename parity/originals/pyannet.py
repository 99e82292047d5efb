"""pyannote.audio's own PyanNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import import_pyannote

if TYPE_CHECKING:
    import torch


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    import_pyannote()
    from pyannote.audio.models.segmentation import PyanNet

    module = PyanNet(
        sincnet=dict(config["sincnet"]),
        lstm=dict(config["lstm"]),
        linear=dict(config["linear"]),
        sample_rate=config["sample_rate"],
        num_channels=config["num_channels"],
    )
    return finished(module, config)


def finished(module: Any, config: Mapping[str, Any]) -> torch.nn.Module:
    """pyannote's way: the classifier is built once a module knows what its classes are."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    said = dict(config["specifications"])
    said |= {
        "problem": Problem[said["problem"]],
        "resolution": Resolution[said["resolution"]],
        "warm_up": tuple(said["warm_up"]),
    }
    module.specifications = Specifications(**said)
    module.build()
    built: torch.nn.Module = module
    return built
