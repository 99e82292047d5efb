"""What a pipeline's clusterings are called, which parts they need, and their numbers.

Facts alone, so that converting and running read the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

OVERLAP = "embedding_exclude_overlap"
CENTROID = "centroid"
# The pipeline's own numbers, with pyannote's defaults.
NUMBERS: Mapping[str, float] = {"min_duration_off": 0.0, "segmentation_step": 0.1}


@dataclass(frozen=True)
class Algorithm:
    """One clustering: its settings, with pyannote's defaults or None where it has none."""

    settings: Mapping[str, float | str | None]
    needs_plda: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """What a pipeline with it is made of."""
        return ("segmentation", "embedding", *(["plda"] if self.needs_plda else []))


VBX, AGGLOMERATIVE = "VBxClustering", "AgglomerativeClustering"
CLUSTERINGS: Mapping[str, Algorithm] = {
    VBX: Algorithm({"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}, needs_plda=True),
    AGGLOMERATIVE: Algorithm(
        {"method": CENTROID, "min_cluster_size": None, "threshold": None}, needs_plda=False
    ),
}


def algorithm(settings: Mapping[str, Any]) -> Algorithm:
    return CLUSTERINGS[settings.get("clustering", VBX)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def fault(settings: Any) -> str:
    """What a pipeline's settings lack or misstate, or nothing."""
    if not isinstance(settings, Mapping):
        return "holds no settings of a pipeline"
    clustering = settings.get("clustering", VBX)
    if not isinstance(clustering, str) or clustering not in CLUSTERINGS:
        known = ", ".join(CLUSTERINGS)
        return f"asks for clustering {clustering!r:.60}, which is not supported; supported: {known}"
    needed = {**CLUSTERINGS[clustering].settings, **NUMBERS}
    if needed.pop("method", CENTROID) != settings.get("method", CENTROID):
        return f"asks for method {settings['method']!r:.60}; supported: {CENTROID}"
    for name in needed:
        if not is_number(settings.get(name)):
            return f"gives {name!r} as {settings.get(name)!r:.40}, which is no number"
    if not isinstance(settings.get(OVERLAP), bool):
        return f"does not say whether {OVERLAP!r}"
    return ""
